"""What a set of IAM policies says about one request: nothing but documents in, a verdict out.

The rules are those of the IAM user guide, "Policy evaluation logic": an explicit Deny anywhere wins; else some identity-based (or, within
the account, resource-based) policy must allow; a permissions boundary and a session policy can only take away.
"""

import functools
import ipaddress
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

ALLOWED, IMPLICIT, EXPLICIT = "allowed", "implicitDeny", "explicitDeny"  # as SimulatePrincipalPolicy writes them
IDENTITY, RESOURCE, SESSION, BOUNDARY = "identity-based policy", "resource-based policy", "session policy", "permissions boundary"

Context = dict[str, str | list[str]]  # condition keys in lower case -> value or values


@dataclass(frozen=True)
class Grants:
    """All policies that bear on a principal's request. ``boundary`` and ``session`` are None where there is none."""

    identity: tuple[dict, ...] = ()
    boundary: tuple[dict, ...] | None = None
    session: tuple[dict, ...] | None = None


@dataclass(frozen=True)
class Verdict:
    """``decision`` in the words of the IAM simulator; ``source`` is the kind of policy that refused."""

    decision: str
    source: str = IDENTITY

    @property
    def allowed(self) -> bool:
        """Whether the request may pass."""
        return self.decision == ALLOWED

    def reason(self, action: str) -> str:
        """The end of AWS's refusal (IAM user guide, "Access denied error messages")."""
        article = "an" if self.source == IDENTITY else "a"
        if self.decision == EXPLICIT:
            return f"with an explicit deny in {article} {self.source}"
        return f"because no {self.source} allows the {action} action"


@functools.lru_cache(maxsize=4096)
def parse(text: str) -> dict:
    """A policy document from its JSON text; read it, never change it."""
    return json.loads(text)


def authorize(grants: Grants, action: str, resource: str, context: Context, shared: Iterable[dict] = ()) -> Verdict:
    """Judge one action on one resource.

    Parameters
    ----------
    action : str
        ``service:Operation``.
    resource : str
        The ARN asked for, or ``*`` for an action that knows no resource.
    shared : iterable of dict
        Resource-based policies of the resource, already cut down to the statements that name this principal.
    """
    layers = [(IDENTITY, grants.identity), (RESOURCE, tuple(shared)), (BOUNDARY, grants.boundary), (SESSION, grants.session)]
    decisions = {source: evaluate(documents, action, resource, context) for source, documents in layers if documents is not None}
    for source, decision in decisions.items():
        if decision == EXPLICIT:
            return Verdict(EXPLICIT, source)
    if ALLOWED not in (decisions[IDENTITY], decisions[RESOURCE]):
        return Verdict(IMPLICIT, IDENTITY)
    for source in (BOUNDARY, SESSION):
        if decisions.get(source, ALLOWED) != ALLOWED:
            return Verdict(IMPLICIT, source)
    return Verdict(ALLOWED)


def evaluate(documents: Iterable[dict], action: str, resource: str, context: Context) -> str:
    """What these documents alone say: ``ALLOWED``, ``IMPLICIT`` or ``EXPLICIT``."""
    decision = IMPLICIT
    for statement in (statement for document in documents for statement in as_list(document.get("Statement"))):
        if _applies(statement, action, resource, context):
            if statement["Effect"] == "Deny":
                return EXPLICIT
            decision = ALLOWED
    return decision


def _applies(statement: dict, action: str, resource: str, context: Context) -> bool:
    return (
        _named(statement, "Action", lambda pattern: matches(pattern.lower(), action.lower()))
        and _named(statement, "Resource", lambda pattern: matches(_with_variables(pattern, context), resource))
        and conditions_hold(statement.get("Condition"), context)
    )


def _named(statement: dict, element: str, fits: Callable[[str], bool]) -> bool:
    """Whether Action/NotAction or Resource/NotResource covers it; trust policies have no Resource at all."""
    if element in statement:
        return any(map(fits, as_list(statement[element])))
    if f"Not{element}" in statement:
        return not any(map(fits, as_list(statement[f"Not{element}"])))
    return element == "Resource"


def matches(pattern: str, text: str) -> bool:
    """Whether ``text`` fits a pattern with ``*`` (any characters, also none) and ``?`` (one character)."""
    return pattern == "*" or _expression(pattern).fullmatch(text) is not None


@functools.lru_cache(maxsize=16384)
def _expression(pattern: str) -> re.Pattern:
    signs = {"*": ".*", "?": ".", "\0": r"\*", "\1": r"\?", "\2": r"\$"}
    return re.compile("".join(signs.get(sign) or re.escape(sign) for sign in pattern), re.DOTALL)


def _with_variables(pattern: str, context: Context) -> str:
    """Fill in ``${aws:username}`` and its like. What is not known matches nothing; ``${*}``, ``${?}``, ``${$}`` are just these signs."""
    if "${" not in pattern:
        return pattern

    def value(found: re.Match) -> str:
        name, _, default = (part.strip() for part in found[1].partition(","))
        if name in ("*", "?", "$"):
            return {"*": "\0", "?": "\1", "$": "\2"}[name]
        known = context.get(name.lower(), default.strip("'") or None)
        text = known if isinstance(known, str) else "\3"  # no ARN has this sign
        return text.replace("*", "\0").replace("?", "\1")  # a value is a text, never a pattern

    return re.sub(r"\$\{([^}]*)\}", value, pattern)


def as_list(value) -> list:
    """IAM lets one value stand for a list of one."""
    return [] if value is None else value if isinstance(value, list) else [value]


# ---- conditions -----------------------------------------------------------------------------------------------------------------


def conditions_hold(block: dict | None, context: Context) -> bool:
    """Whether all operators of a Condition block hold (IAM user guide, "Condition operators")."""
    return all(_holds(operator, key, as_list(wanted), context) for operator, keys in (block or {}).items() for key, wanted in keys.items())


def _holds(operator: str, key: str, wanted: list, context: Context) -> bool:
    quantifier, _, name = operator.rpartition(":")
    optional, name = name.endswith("IfExists"), name.removesuffix("IfExists")
    values = [str(value) for value in as_list(context.get(key.lower()))]
    if name == "Null":
        return (not values) == (str(wanted[0]).lower() == "true")
    negated = "Not" in name
    if not values:
        return optional or negated or quantifier == "ForAllValues"
    compare = COMPARISONS.get(name.replace("Not", ""))  # NotIpAddress, StringNotLike, ...
    if compare is None:
        raise ValueError(f"condition operator {operator!r} is not known to IAM")
    patterns = [_with_variables(str(pattern), context) for pattern in wanted]
    fits = [any(compare(value, pattern) for pattern in patterns) != negated for value in values]
    return any(fits) if quantifier == "ForAnyValue" else all(fits)


def _same(value: str, wanted: str) -> bool:
    return value == wanted.replace("\0", "*").replace("\1", "?").replace("\2", "$")


def _arn_like(value: str, pattern: str) -> bool:
    """Part by part: a ``*`` does not reach over the colons of the first five."""
    mine, theirs = value.split(":", 5), pattern.split(":", 5)
    return pattern == "*" or len(mine) == len(theirs) and all(matches(wanted, part) for part, wanted in zip(mine, theirs, strict=True))


def _moment(text: str) -> datetime:
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return datetime.fromtimestamp(float(text), UTC)
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _in_network(value: str, wanted: str) -> bool:
    return ipaddress.ip_address(value) in ipaddress.ip_network(wanted, strict=False)


def _ordered(kind: str, convert: Callable) -> dict[str, Callable[[str, str], bool]]:
    return {
        f"{kind}Equals": lambda value, wanted: convert(value) == convert(wanted),
        f"{kind}LessThan": lambda value, wanted: convert(value) < convert(wanted),
        f"{kind}LessThanEquals": lambda value, wanted: convert(value) <= convert(wanted),
        f"{kind}GreaterThan": lambda value, wanted: convert(value) > convert(wanted),
        f"{kind}GreaterThanEquals": lambda value, wanted: convert(value) >= convert(wanted),
    }


# Operators without their "Not": each takes (value of the request, value of the policy).
COMPARISONS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": _same,
    "StringEqualsIgnoreCase": lambda value, wanted: _same(value.lower(), wanted.lower()),
    "StringLike": lambda value, wanted: matches(wanted, value),
    "ArnEquals": _arn_like, "ArnLike": _arn_like,  # IAM treats the two alike
    "Bool": lambda value, wanted: value.lower() == wanted.lower(),
    "BinaryEquals": _same,
    "IpAddress": _in_network,
    **_ordered("Numeric", float), **_ordered("Date", _moment),
}  # fmt: skip


# ---- trust and other policies that name principals ------------------------------------------------------------------------------


def naming(document: dict, principals: dict[str, set[str]]) -> dict:
    """The statements of a resource-based or trust policy that name a principal of {"AWS": {ARNs, account}} or {"Service": {...}}."""
    statements = [statement for statement in as_list(document.get("Statement")) if _names(statement, principals)]
    return {"Statement": [{key: value for key, value in statement.items() if key != "Principal"} for statement in statements]}


def _names(statement: dict, principals: dict[str, set[str]]) -> bool:
    if "NotPrincipal" in statement:
        return not _names({"Principal": statement["NotPrincipal"]}, principals)
    named = statement.get("Principal")
    if named == "*":
        return "AWS" in principals
    return any("*" in (wanted := as_list((named or {}).get(kind))) or names & set(wanted) for kind, names in principals.items())
