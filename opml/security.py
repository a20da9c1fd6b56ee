"""A review of the account: facts are collected once (reads only), checks are pure functions.

The review asks three questions of every role and customer policy:

1. which allow too much (FullAccess policies, wildcards, passing any role);
2. which are not used any more;
3. which grant something on functions or endpoints that no longer exist.

What could not be read is a finding too, of severity ``unknown``: unknown is not a pass.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

import pandas as pd

from opml.facts import SERVICE_LINKED, Facts, Policy, Role, collect
from opml.policies import endpoint_arn, ensure_role, instance_policy, lambda_policy, training_policy, trust_policy
from opml.sins import plant_sins, remove_sins

# One name for the notebooks: facts, policies and sins are rooms of their own only to keep each readable.
__all__ = [
    "Facts", "Finding", "Policy", "Role", "check_orphans", "check_stale_roles", "check_unknown", "check_wildcards", "collect",
    "endpoint_arn", "ensure_role", "instance_policy", "lambda_policy", "plant_sins", "remove_sins", "review", "training_policy",
    "trust_policy",
]  # fmt: skip

SEVERITIES = ("high", "medium", "low", "unknown")
TOO_MUCH = ("*FullAccess", "AdministratorAccess", "PowerUserAccess")


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
