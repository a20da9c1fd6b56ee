"""What an administrator makes once for the project: boundary, execution role, operator's role; and the operator's session.

`opml.aws` does so with the owner's credentials of a local AWS. In a real account an administrator attaches the documents that
``python -m opml policy`` prints.
"""

from __future__ import annotations

import json

from opml import operators
from opml.operators import ADMIN_PATH, BOUNDARY, EXECUTION, OPERATOR, Site
from opml.policies import policy_document, training_policy, trust_policy

SESSION = "notebooks"  # the session's name, as the record of calls shows it
HOURS = 12  # the longest session that IAM gives
VERSIONS = 5  # of a managed policy that IAM keeps


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
    document = operators.boundary_policy(site)
    try:
        iam.create_policy(PolicyName=BOUNDARY, Path=ADMIN_PATH, PolicyDocument=json.dumps(document))
    except iam.exceptions.EntityAlreadyExistsException:  # an earlier version's, or another process was first
        _renew_policy(iam, site.boundary_arn, document)


def _renew_policy(iam, arn: str, document: dict) -> None:
    """Make the document the policy's default version, unless it is; the oldest of the others gives way where there is no room."""
    default = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    if iam.get_policy_version(PolicyArn=arn, VersionId=default)["PolicyVersion"]["Document"] == document:
        return
    others = {one["VersionId"] for one in iam.list_policy_versions(PolicyArn=arn)["Versions"]} - {default}
    if len(others) >= VERSIONS - 1:
        iam.delete_policy_version(PolicyArn=arn, VersionId=min(others, key=lambda name: int(name.removeprefix("v"))))
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(document), SetAsDefault=True)


def _role(iam, name: str, trust: dict, policy: dict) -> None:
    longest = HOURS * 3600
    try:
        iam.create_role(RoleName=name, Path=ADMIN_PATH, AssumeRolePolicyDocument=json.dumps(trust), MaxSessionDuration=longest)
    except iam.exceptions.EntityAlreadyExistsException:
        known = iam.get_role(RoleName=name)["Role"]
        if known["AssumeRolePolicyDocument"] != trust:
            iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(trust))
        if known["MaxSessionDuration"] != longest:
            iam.update_role(RoleName=name, MaxSessionDuration=longest)
    iam.put_role_policy(RoleName=name, PolicyName="opml", PolicyDocument=json.dumps(policy))
