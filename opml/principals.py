"""What an administrator makes once for the project: boundary, execution role, operator's role; and the operator's session.

`opml.aws` does so with the owner's credentials of a local AWS. In a real account an administrator attaches the documents that
``python -m opml policy`` prints.
"""

from __future__ import annotations

import contextlib
import json

from opml import operators
from opml.operators import ADMIN_PATH, BOUNDARY, EXECUTION, OPERATOR, Site
from opml.policies import policy_document, training_policy, trust_policy

SESSION = "notebooks"  # the session's name, as the record of calls shows it
HOURS = 12  # the longest session that IAM gives


def set_up(iam, site: Site) -> None:
    """Make the three, or bring them up to date. ``iam`` is a client that may do everything."""
    _boundary(iam, site)
    trust = {"Effect": "Allow", "Principal": {"AWS": site.iam("root")}, "Action": "sts:AssumeRole"}
    _role(iam, OPERATOR, policy_document(trust), operators.operator_policy(site))
    _role(iam, EXECUTION, trust_policy("sagemaker.amazonaws.com", site.account), training_policy(site))


def operator_session(sts, site: Site) -> dict[str, str]:
    """Temporary credentials of the operator, as AssumeRole answers them."""
    role = site.iam(f"role{ADMIN_PATH}{OPERATOR}")
    return sts.assume_role(RoleArn=role, RoleSessionName=SESSION, DurationSeconds=HOURS * 3600)["Credentials"]


def _boundary(iam, site: Site) -> None:
    with contextlib.suppress(iam.exceptions.EntityAlreadyExistsException):  # another process was first
        iam.create_policy(PolicyName=BOUNDARY, Path=ADMIN_PATH, PolicyDocument=json.dumps(operators.boundary_policy(site)))


def _role(iam, name: str, trust: dict, policy: dict) -> None:
    with contextlib.suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_role(RoleName=name, Path=ADMIN_PATH, AssumeRolePolicyDocument=json.dumps(trust), MaxSessionDuration=HOURS * 3600)
    iam.put_role_policy(RoleName=name, PolicyName="opml", PolicyDocument=json.dumps(policy))
