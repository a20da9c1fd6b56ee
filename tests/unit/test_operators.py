"""The operator's policy as documents: what it allows, what it must never allow, and what bounds the roles that an operator makes."""

import json
from fnmatch import fnmatchcase

import pytest

from opml import cli, operators, policies
from opml.aws import Aws
from opml.localaws.iam_policy import ALLOWED, evaluate

ACCOUNT = "123456789012"
SITE = operators.Site("us-east-1", ACCOUNT, "the-bucket")
RUN = Aws("local", "us-east-1", ACCOUNT, SITE.execution_role_arn, "the-bucket", "first", SITE.boundary_arn)
POLICY = operators.operator_policy(SITE)
ROLE, FUNCTION_ROLE = SITE.iam("role/opml-first-x"), SITE.iam("role/opml-first-function-role")
BOUNDED = {"iam:permissionsboundary": SITE.boundary_arn}


def says(document, action, resource, **context):
    keys = {key.replace("__", ":").lower(): value for key, value in context.items()}
    return evaluate([document], action, resource, keys)


def test_it_fits_a_roles_inline_policy():  # 10,240 characters, white space not counted (IAM quotas)
    assert len(json.dumps(POLICY, separators=(",", ":"))) < 10_240
    assert len(json.dumps(operators.boundary_policy(SITE), separators=(",", ":"))) < 6_144  # a managed policy's


def test_all_things_stand_only_where_aws_takes_no_other_resource():
    everywhere = {action for one in POLICY["Statement"] if "*" in one["Resource"] for action in one["Action"]}
    assert all(action.partition(":")[2].startswith(("List", "Describe", "GetAccountSettings", "GetMetric")) for action in everywhere)
    assert not any("*" in action for one in POLICY["Statement"] for action in one["Action"])


def test_every_statement_has_a_name_of_its_own():
    names = [one["Sid"] for one in POLICY["Statement"]]
    assert len(set(names)) == len(names) and all(name.isalnum() for name in names)


def test_what_is_spare_is_allowed_and_has_a_reason():
    allowed = {action for one in POLICY["Statement"] for action in one["Action"]}
    assert set(operators.SPARE) <= allowed and all(operators.SPARE.values())


@pytest.mark.parametrize(
    ("action", "resource", "context"),
    [
        ("iam:CreateRole", ROLE, {}),
        ("iam:CreateRole", ROLE, {"iam:permissionsboundary": "arn:aws:iam::aws:policy/AdministratorAccess"}),
        ("iam:CreateRole", SITE.iam("role/another"), BOUNDED),
        ("iam:PutRolePolicy", SITE.iam("role/opml/OpmlOperator"), BOUNDED),
        ("iam:PutRolePolicy", ROLE, {}),
        ("iam:UpdateAssumeRolePolicy", SITE.iam("role/opml/OpmlExecution"), {}),
        ("iam:AttachRolePolicy", ROLE, {**BOUNDED, "iam:policyarn": "arn:aws:iam::aws:policy/AdministratorAccess"}),
        ("iam:PutRolePermissionsBoundary", ROLE, BOUNDED), ("iam:DeleteRolePermissionsBoundary", ROLE, BOUNDED),
        ("iam:CreatePolicyVersion", SITE.boundary_arn, {}), ("iam:DeletePolicy", SITE.boundary_arn, {}),
        ("iam:PassRole", FUNCTION_ROLE, {"iam:passedtoservice": "sagemaker.amazonaws.com"}),
        ("iam:PassRole", SITE.execution_role_arn, {"iam:passedtoservice": "lambda.amazonaws.com"}),
        ("iam:PassRole", SITE.iam("role/admin"), {"iam:passedtoservice": "sagemaker.amazonaws.com"}),
        ("iam:CreateUser", SITE.iam("user/opml-x"), {}), ("iam:CreateAccessKey", SITE.iam("user/opml-x"), {}),
        ("sts:AssumeRole", SITE.execution_role_arn, {}), ("lambda:UpdateFunctionCode", SITE.arn("lambda", "function:opml-x"), {}),
        ("s3:GetObject", "arn:aws:s3:::the-bucket/another/x", {}), ("s3:PutBucketPolicy", "arn:aws:s3:::the-bucket", {}),
        ("sagemaker:InvokeEndpoint", SITE.arn("sagemaker", "endpoint/theirs"), {}),
        ("sagemaker:CreateNotebookInstance", SITE.arn("sagemaker", "notebook-instance/opml-x"), {}),
        ("ec2:TerminateInstances", SITE.arn("ec2", "instance/i-1"), {"aws:resourcetag/opml:project": "theirs"}),
        ("ec2:RunInstances", SITE.arn("ec2", "instance/*"), {}),
        ("ec2:RunInstances", SITE.arn("ec2", "instance/*"), {"aws:requesttag/opml:project": "theirs"}),
        ("ec2:CreateTags", SITE.arn("ec2", "instance/i-1"), {}),
    ],
)  # fmt: skip
def test_an_operator_can_neither_raise_their_rights_nor_touch_what_is_not_ours(action, resource, context):
    assert evaluate([POLICY], action, resource, context) != ALLOWED


@pytest.mark.parametrize(
    ("action", "resource", "context"),
    [
        ("iam:CreateRole", ROLE, BOUNDED), ("iam:AttachRolePolicy", ROLE, {**BOUNDED, "iam:policyarn": operators.FULL_ACCESS}),
        ("iam:PassRole", FUNCTION_ROLE, {"iam:passedtoservice": "lambda.amazonaws.com"}),
        ("iam:PassRole", SITE.execution_role_arn, {"iam:passedtoservice": "sagemaker.amazonaws.com"}),
        ("ec2:TerminateInstances", SITE.arn("ec2", "instance/i-1"), {"aws:resourcetag/opml:project": "opml"}),
        ("ec2:RunInstances", SITE.arn("ec2", "instance/*"), {"aws:requesttag/opml:project": "opml"}),
        ("ec2:RunInstances", SITE.arn("ec2", "subnet/subnet-1"), {}),
        ("ec2:CreateTags", SITE.arn("ec2", "instance/i-1"), {"ec2:createaction": "RunInstances"}),
    ],
)  # fmt: skip
def test_what_the_notebooks_need_is_allowed(action, resource, context):
    assert evaluate([POLICY], action, resource, context) == ALLOWED


@pytest.mark.parametrize(
    "policy", [policies.lambda_policy(RUN, "opml-first-endpoint", "opml-first-function"), policies.instance_policy(RUN)]
)
def test_the_boundary_leaves_the_functions_and_the_instances_role_their_rights(policy):
    for one in policy["Statement"]:
        for action in one["Action"]:
            for resource in one["Resource"]:
                assert says(operators.boundary_policy(SITE), action, resource.replace("*", "x")) == ALLOWED, (action, resource)


def test_the_boundary_stops_at_the_project():
    boundary = operators.boundary_policy(SITE)
    for action, resource in (("s3:GetObject", "arn:aws:s3:::the-bucket/x"), ("iam:CreateRole", ROLE), ("sagemaker:CreateModel", "*")):
        assert says(boundary, action, resource) != ALLOWED


def test_the_execution_role_of_the_project_covers_its_runs_and_one_of_a_run_no_other():
    project, run = policies.training_policy(SITE), policies.training_policy(RUN)
    other = "arn:aws:s3:::the-bucket/opml/second/data/x"
    assert says(project, "s3:GetObject", other) == ALLOWED and says(run, "s3:GetObject", other) != ALLOWED
    assert says(project, "s3:GetObject", "arn:aws:s3:::the-bucket/private/x") != ALLOWED


@pytest.mark.parametrize("who", ["operator", "boundary", "execution", "lambda", "ec2"])
def test_each_policy_can_be_printed(who, capsys):
    assert cli.main(["policy", who, "--account", ACCOUNT]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["Version"] == "2012-10-17" and all("Sid" in one for one in printed["Statement"])


def test_another_execution_role_is_the_one_that_may_be_passed(capsys):
    cli.main(["policy", "operator", "--account", ACCOUNT, "--execution_role", "arn:aws:iam::123456789012:role/mine"])
    (passing,) = [one for one in json.loads(capsys.readouterr().out)["Statement"] if one["Sid"] == "PassExecutionRole"]
    assert passing["Resource"] == ["arn:aws:iam::123456789012:role/mine"]


def test_the_printed_execution_policy_pulls_our_images_alone(capsys):
    cli.main(["policy", "execution", "--account", ACCOUNT, "--run_id", "spring"])
    statements = {one["Sid"]: one for one in json.loads(capsys.readouterr().out)["Statement"]}
    assert all(fnmatchcase(arn, "arn:aws:ecr:us-east-1:*:repository/pytorch-*") for arn in statements["PullImages"]["Resource"])
    assert statements["ReadAndWriteThisRun"]["Resource"] == [f"arn:aws:s3:::sagemaker-us-east-1-{ACCOUNT}/opml/spring/*"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--account", "12"], "must be 12 digits, not '12'"), (["--account", ACCOUNT, "--run_id", "A"], "run_id must be")],
)
def test_what_no_account_and_no_run_has_is_one_sentence(arguments, said, capsys):
    assert cli.main(["policy", "lambda", *arguments]) == 2
    assert said in capsys.readouterr().err
