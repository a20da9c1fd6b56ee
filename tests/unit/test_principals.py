"""What an administrator makes once, made again by a later version of the project: everything is as that version says."""

import json

import pytest

from opml import operators, policies, principals

SITE = operators.Site("us-east-1", "123456789012", "the-bucket")
OLD = policies.policy_document(policies.allow("Old", ["s3:GetObject"], ["*"]))


@pytest.fixture
def iam(aws):
    return aws.client("iam")


def boundary(iam):
    """(names of all versions, document of the default one) of the boundary."""
    versions = iam.list_policy_versions(PolicyArn=SITE.boundary_arn)["Versions"]
    default = iam.get_policy(PolicyArn=SITE.boundary_arn)["Policy"]["DefaultVersionId"]
    version = iam.get_policy_version(PolicyArn=SITE.boundary_arn, VersionId=default)["PolicyVersion"]
    return {one["VersionId"] for one in versions}, version["Document"]


def test_an_old_boundary_is_brought_up_to_date_once(iam):
    iam.create_policy(PolicyName=operators.BOUNDARY, Path=operators.ADMIN_PATH, PolicyDocument=json.dumps(OLD))
    for _ in range(2):
        principals.set_up(iam, SITE)
        assert boundary(iam) == ({"v1", "v2"}, operators.boundary_policy(SITE))


def test_the_oldest_version_of_a_full_boundary_gives_way(iam):
    iam.create_policy(PolicyName=operators.BOUNDARY, Path=operators.ADMIN_PATH, PolicyDocument=json.dumps(OLD))
    for _ in range(4):
        iam.create_policy_version(PolicyArn=SITE.boundary_arn, PolicyDocument=json.dumps(OLD), SetAsDefault=False)
    principals.set_up(iam, SITE)
    assert boundary(iam) == ({"v1", "v3", "v4", "v5", "v6"}, operators.boundary_policy(SITE))  # v1 was the default, which IAM keeps


def test_roles_that_are_there_get_trust_and_the_longest_session(iam):
    iam.create_role(RoleName=operators.OPERATOR, Path=operators.ADMIN_PATH, AssumeRolePolicyDocument=json.dumps(OLD))
    principals.set_up(iam, SITE)
    role = iam.get_role(RoleName=operators.OPERATOR)["Role"]
    assert role["MaxSessionDuration"] == principals.HOURS * 3600
    assert role["AssumeRolePolicyDocument"]["Statement"][0]["Principal"] == {"AWS": SITE.iam("root")}
    assert iam.get_role_policy(RoleName=operators.OPERATOR, PolicyName="opml")["PolicyDocument"] == operators.operator_policy(SITE)


def test_what_is_up_to_date_is_left_alone(iam, monkeypatch):
    principals.set_up(iam, SITE)
    for operation in ("update_role", "update_assume_role_policy", "create_policy_version", "delete_policy_version"):
        monkeypatch.setattr(iam, operation, None)  # a call would fail
    principals.set_up(iam, SITE)
    assert boundary(iam)[0] == {"v1"}
