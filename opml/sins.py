"""Three sins, planted so that a review has something to find, and taken away again."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

from opml.policies import allow, delete_role, ensure_role, policy_document

if TYPE_CHECKING:
    from opml.aws import Aws

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
