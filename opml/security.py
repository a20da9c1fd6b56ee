"""A review of the account: facts are collected once (reads only), checks are pure functions. The policies of a run are in ``policies``.

The review asks three questions of every role and customer policy:

1. which allow too much (FullAccess policies, wildcards, passing any role);
2. which are not used any more;
3. which grant something on functions or endpoints that no longer exist.

What could not be read is a finding too, of severity ``unknown``: unknown is not a pass.
"""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import pandas as pd
from botocore.exceptions import BotoCoreError, ClientError

from opml.policies import (
    allow,
    delete_role,
    endpoint_arn,
    ensure_role,
    instance_policy,
    lambda_policy,
    policy_document,
    training_policy,
    trust_policy,
)

if TYPE_CHECKING:
    from opml.aws import Aws

__all__ = [
    "Facts",
    "Finding",
    "Policy",
    "Role",
    "check_orphans",
    "check_stale_roles",
    "check_unknown",
    "check_wildcards",
    "collect",
    "endpoint_arn",
    "ensure_role",
    "instance_policy",
    "lambda_policy",
    "plant_sins",
    "remove_sins",
    "review",
    "training_policy",
    "trust_policy",
]

SEVERITIES = ("high", "medium", "low", "unknown")
SERVICE_LINKED = "/aws-service-role/"  # made and kept by AWS itself
TOO_MUCH = ("*FullAccess", "AdministratorAccess", "PowerUserAccess")


# --- facts ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Policy:
    """A policy document and where it hangs: ``kind`` is aws, customer or inline; ``document`` is None if it could not be read."""

    name: str
    kind: str
    document: dict | None = None
    attachments: int = 1


@dataclass(frozen=True)
class Role:
    """A role with its policies; ``last_used`` is None if it never was (AWS remembers 400 days)."""

    name: str
    path: str
    created: datetime
    last_used: datetime | None = None
    policies: tuple[Policy, ...] = ()


@dataclass(frozen=True)
class Facts:
    """What the review knows; ``None`` for a list that could not be read, and the reason in ``unknown``."""

    at: datetime
    account: str = ""
    region: str = ""
    roles: tuple[Role, ...] | None = ()
    policies: tuple[Policy, ...] | None = ()
    functions: frozenset[str] | None = frozenset()
    endpoints: frozenset[str] | None = frozenset()
    unknown: tuple[str, ...] = ()


@dataclass
class _Reader:
    """Reads that may be refused: the refusal is written down, the review goes on."""

    unknown: list[str] = field(default_factory=list)

    def read(self, what: str, call, default=None):
        try:
            return call()
        except (ClientError, BotoCoreError) as error:
            self.unknown.append(f"{what}: {error}")
            return default


def collect(aws: Aws) -> Facts:
    """Read roles, policies, function names and endpoint names of the account. Changes nothing.

    A read that is refused (a missing permission) does not end the review: it becomes an entry of ``Facts.unknown``.
    """
    reader, iam = _Reader(), aws.client("iam")
    documents: dict[str, dict | None] = {}  # an AWS policy hangs on many roles: read it once
    names = reader.read("roles", lambda: _all(iam, "list_roles", "Roles"))
    customer = reader.read("customer policies", lambda: _all(iam, "list_policies", "Policies", Scope="Local"))
    functions = reader.read("functions", lambda: _all(aws.client("lambda"), "list_functions", "Functions"))
    endpoints = reader.read("endpoints", lambda: _all(aws.client("sagemaker"), "list_endpoints", "Endpoints"))
    roles = names if names is None else tuple(_role(iam, reader, r, documents) for r in names if not r["Path"].startswith(SERVICE_LINKED))
    policies = customer if customer is None else tuple(_customer_policy(iam, reader, p, documents) for p in customer)
    return Facts(
        at=datetime.now(UTC),
        account=aws.account,
        region=aws.region,
        roles=roles,
        policies=policies,
        functions=functions if functions is None else frozenset(f["FunctionName"] for f in functions),
        endpoints=endpoints if endpoints is None else frozenset(e["EndpointName"] for e in endpoints),
        unknown=tuple(reader.unknown),
    )


def _all(client, operation: str, key: str, **arguments) -> list[dict]:
    return [item for page in client.get_paginator(operation).paginate(**arguments) for item in page[key]]


def _role(iam, reader: _Reader, summary: dict, documents: dict) -> Role:
    name = summary["RoleName"]
    # list_roles never says when a role was last used: each one must be asked for.
    role = reader.read(f"role {name}", lambda: iam.get_role(RoleName=name)["Role"], default=summary)
    attached = reader.read(f"policies of {name}", lambda: _all(iam, "list_attached_role_policies", "AttachedPolicies", RoleName=name), [])
    inline = reader.read(f"inline policies of {name}", lambda: _all(iam, "list_role_policies", "PolicyNames", RoleName=name), [])
    policies = [_attached_policy(iam, reader, p["PolicyName"], p["PolicyArn"], documents) for p in attached]
    for policy in inline:
        answer = reader.read(f"policy {policy} of {name}", lambda p=policy: iam.get_role_policy(RoleName=name, PolicyName=p), {})
        policies.append(Policy(policy, "inline", answer.get("PolicyDocument")))
    return Role(name, role["Path"], role["CreateDate"], role.get("RoleLastUsed", {}).get("LastUsedDate"), tuple(policies))


def _attached_policy(iam, reader: _Reader, name: str, arn: str, documents: dict) -> Policy:
    if arn not in documents:
        documents[arn] = reader.read(f"policy {name}", lambda: _document(iam, arn))
    return Policy(name, "aws" if arn.startswith("arn:aws:iam::aws:") else "customer", documents[arn])


def _customer_policy(iam, reader: _Reader, summary: dict, documents: dict) -> Policy:
    policy = _attached_policy(iam, reader, summary["PolicyName"], summary["Arn"], documents)
    return Policy(policy.name, "customer", policy.document, summary.get("AttachmentCount", 0))


def _document(iam, arn: str) -> dict:
    version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    return iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]


# --- checks -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    """One thing to look at: how bad, what about, what was seen, what to do."""

    severity: str
    question: str
    subject: str
    evidence: str
    fix: str


def check_wildcards(facts: Facts) -> list[Finding]:
    """Question 1: roles and loose customer policies that allow too much (Security Hub IAM.1 and IAM.21)."""
    question, fix = "allows too much", "list the actions and ARNs that are used, and attach that instead"
    found = []
    for owner, policy in _owned_policies(facts):
        if policy.kind == "aws" and any(fnmatchcase(policy.name, pattern) for pattern in TOO_MUCH):
            found.append(Finding("high", question, owner, f"managed policy {policy.name} is attached", fix))
        elif policy.document is None:
            found.append(
                Finding("unknown", question, owner, f"policy {policy.name} could not be read", "grant the reviewer iam:Get*, iam:List*")
            )
        else:
            reasons = [reason for statement in _statements(policy.document) for reason in _too_much(statement)]
            severity = "high" if policy.attachments else "medium"  # nobody has it, but one click attaches it
            if reasons:
                found.append(Finding(severity, question, owner, f"policy {policy.name}: {'; '.join(dict.fromkeys(reasons))}", fix))
    return found


def _too_much(statement: dict) -> list[str]:
    """Why an Allow statement is too wide; empty if it is not."""
    if statement.get("Effect") != "Allow":
        return []
    actions, everywhere = _listed(statement, "Action"), any(r in ("*", "arn:aws:iam::*:role/*") for r in _listed(statement, "Resource"))
    reasons = ["NotAction allows all but a list"] if "NotAction" in statement else []
    reasons += [f"action {action}" for action in actions if action == "*" or re.fullmatch(r"[\w-]+:\*", action)]
    passes_any = everywhere and any(fnmatchcase("iam:passrole", action.lower()) for action in actions if action != "*")
    return reasons + (["iam:PassRole on every role"] if passes_any and "iam:*" not in actions else [])


def check_stale_roles(facts: Facts, unused_days: int = 90, grace_days: int = 0) -> list[Finding]:
    """Question 2: roles that nobody has used for long, or ever. AWS's own roles (``/aws-service-role/``) are not asked.

    Parameters
    ----------
    unused_days : int
        A role last used longer ago is stale: 90 days is what Access Analyzer's examples use. A role that was never used is
        of medium severity once it is that old, and of low severity before: it may simply be new.
    grace_days : int
        A role that was never used and is younger is not reported at all.
    """
    question, fix = "not used", "delete it, or write down who needs it"
    found = []
    for role in facts.roles or ():
        if role.path.startswith(SERVICE_LINKED):
            continue
        age = (facts.at - role.created).days
        idle = (facts.at - role.last_used).days if role.last_used else age
        if role.last_used and idle > unused_days:
            found.append(Finding("medium", question, f"role {role.name}", f"last used {idle} days ago", fix))
        elif not role.last_used and age >= grace_days:
            severity = "medium" if age > unused_days else "low"
            found.append(Finding(severity, question, f"role {role.name}", f"never used; {age} days old", fix))
    return found


# What a resource ARN of a policy points at: the kind, and the expression that takes region, account and name from it.
POINTERS = (
    ("function", re.compile(r"arn:aws:logs:([^:]*):([^:]*):log-group:/aws/lambda/([\w-]+)(?=[:*]|$)")),
    ("function", re.compile(r"arn:aws:lambda:([^:]*):([^:]*):function:([\w-]+)(?=[:*]|$)")),
    ("endpoint", re.compile(r"arn:aws:sagemaker:([^:]*):([^:]*):endpoint/([a-z0-9-]+)$")),
)


def check_orphans(facts: Facts) -> list[Finding]:
    """Question 3: policies that name a function or an endpoint of this account and region that does not exist."""
    question, fix = "names what is gone", "detach and delete the policy, or take the ARN out"
    endpoints = None if facts.endpoints is None else {name.lower() for name in facts.endpoints}
    present = {"function": facts.functions, "endpoint": endpoints}
    found = []
    for owner, policy in _owned_policies(facts):
        for kind, name in sorted(_pointed_at(policy.document or {}, facts)):
            if present[kind] is None:
                evidence = f"policy {policy.name} names {kind} {name}, and the {kind}s could not be listed"
                found.append(Finding("unknown", question, owner, evidence, f"grant the reviewer the right to list {kind}s"))
            elif name not in present[kind]:
                found.append(Finding("medium", question, owner, f"policy {policy.name} names {kind} {name}, which does not exist", fix))
    return found


def _pointed_at(document: dict, facts: Facts) -> set[tuple[str, str]]:
    here = ({facts.region, "", "*"}, {facts.account, "", "*"})
    arns = [arn for statement in _statements(document) for arn in _listed(statement, "Resource")]
    matches = [(kind, match) for arn in arns for kind, pattern in POINTERS if (match := pattern.match(arn))]
    exact = [(kind, m) for kind, m in matches if not m.string[m.end() :].startswith("*")]  # "dog*" names many: not judged
    return {(kind, m.group(3)) for kind, m in exact if m.group(1) in here[0] and m.group(2) in here[1]}


def check_unknown(facts: Facts) -> list[Finding]:
    """What could not be read, one finding each."""
    return [Finding("unknown", "could not be read", text.partition(":")[0], text, "grant the reviewer this read") for text in facts.unknown]


def review(facts: Facts, unused_days: int = 90, grace_days: int = 0) -> pd.DataFrame:
    """All findings, worst first: columns severity, question, subject, evidence, fix. Empty if there are none."""
    findings = check_wildcards(facts) + check_stale_roles(facts, unused_days, grace_days) + check_orphans(facts) + check_unknown(facts)
    findings.sort(key=lambda f: (SEVERITIES.index(f.severity), f.question, f.subject))
    return pd.DataFrame([vars(f) for f in findings], columns=list(Finding.__dataclass_fields__))


def _owned_policies(facts: Facts) -> list[tuple[str, Policy]]:
    """Each policy once for each role that has it; customer policies that hang on no role stand for themselves."""
    owned = [
        (f"role {role.name}", policy) for role in facts.roles or () for policy in role.policies if not role.path.startswith(SERVICE_LINKED)
    ]
    attached = {policy.name for _, policy in owned if policy.kind == "customer"}
    return owned + [(f"policy {policy.name}", policy) for policy in facts.policies or () if policy.name not in attached]


def _statements(document: dict) -> list[dict]:
    statements = document.get("Statement", [])
    return [statements] if isinstance(statements, dict) else statements


def _listed(statement: dict, key: str) -> list[str]:
    value = statement.get(key, [])
    return [value] if isinstance(value, str) else list(value)


# --- planted sins -----------------------------------------------------------------------------------------------------

NOBODY = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}]}


def plant_sins(aws: Aws) -> list[str]:
    """Make one sin for each question, so that the review has something to find. Safe in a real account, and idempotent.

    The roles trust nobody (their only trust statement is a Deny), so the rights they carry cannot be used; the policy is
    attached to nothing. All three carry the tags of this run: ``opml.resources.teardown`` removes them.

    1. a role with AmazonSageMakerFullAccess;
    2. a role that has never been used (no API can set a creation date, so it is a young one: severity low);
    3. a policy under ``/service-role/``, as the Lambda console leaves behind, for a function that does not exist.

    Returns
    -------
    list of str
        The ARNs of the two roles and the policy.
    """
    iam = aws.client("iam")
    harmless = policy_document(allow("ListOneBucket", ["s3:ListBucket"], [f"arn:aws:s3:::{aws.bucket}"]))
    tempting = ensure_role(aws, aws.name("sin-full-access"), NOBODY, harmless)
    iam.attach_role_policy(RoleName=aws.name("sin-full-access"), PolicyArn="arn:aws:iam::aws:policy/AmazonSageMakerFullAccess")
    idle = ensure_role(aws, aws.name("sin-never-used"), NOBODY, harmless)
    return [tempting, idle, _plant_orphan(aws)]


def remove_sins(aws: Aws) -> None:
    """Take away what :func:`plant_sins` made; what is gone already is fine."""
    iam = aws.client("iam")
    for what in ("sin-full-access", "sin-never-used"):
        with contextlib.suppress(iam.exceptions.NoSuchEntityException):
            delete_role(aws, aws.name(what))
    with contextlib.suppress(iam.exceptions.NoSuchEntityException):
        iam.delete_policy(PolicyArn=f"arn:aws:iam::{aws.account}:policy/service-role/{aws.name('sin-orphan')}")


def _plant_orphan(aws: Aws) -> str:
    name, path = aws.name("sin-orphan"), "/service-role/"
    logs = f"arn:aws:logs:{aws.region}:{aws.account}:log-group:/aws/lambda/{aws.name('deleted-function')}:*"
    document = json.dumps(policy_document(allow("Logs", ["logs:CreateLogStream", "logs:PutLogEvents"], [logs])))
    iam = aws.client("iam")
    try:
        return iam.create_policy(PolicyName=name, Path=path, PolicyDocument=document, Tags=aws.tags)["Policy"]["Arn"]
    except iam.exceptions.EntityAlreadyExistsException:
        return f"arn:aws:iam::{aws.account}:policy{path}{name}"
