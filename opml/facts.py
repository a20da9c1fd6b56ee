"""What a review of the account judges: roles, policies, functions and endpoints, collected once, by reads only."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from opml.aws import Aws

SERVICE_LINKED = "/aws-service-role/"  # made and kept by AWS itself


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
