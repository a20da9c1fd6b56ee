import json
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError

from opml import security
from opml.security import Facts, Policy, Role

NOW = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture
def managed_policies():
    return True


def document(action, resource="*", **extra):
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": resource, **extra}]}


def facts(*policies, **more):
    role = Role("trainer", "/", NOW - timedelta(days=10), NOW - timedelta(days=1), tuple(policies))
    return Facts(**{"at": NOW, "account": "123456789012", "region": "us-east-1", "roles": (role,), **more})


def aged(created, used=None, path="/"):
    return facts(roles=(Role("trainer", path, NOW - timedelta(days=created), used and NOW - timedelta(days=used)),))


@pytest.mark.parametrize(
    "action, resource",
    [("*", "*"), ("sagemaker:*", "*"), (["s3:GetObject", "logs:*"], "*"), ("iam:PassRole", "*"), ("iam:Pass*", "arn:aws:iam::*:role/*")],
)
def test_wildcards_are_found(action, resource):
    (finding,) = security.check_wildcards(facts(Policy("wide", "inline", document(action, resource))))
    assert finding.severity == "high" and finding.subject == "role trainer" and "wide" in finding.evidence


@pytest.mark.parametrize("action", ["s3:GetObject", ["s3:Get*"], "iam:GetRole"])
def test_narrow_actions_are_no_finding(action):
    assert security.check_wildcards(facts(Policy("narrow", "inline", document(action)))) == []


def test_passing_one_role_is_no_finding():
    one = document("iam:PassRole", "arn:aws:iam::123456789012:role/opml-t-trainer")
    assert security.check_wildcards(facts(Policy("pass", "inline", one))) == []


def test_a_deny_of_everything_is_no_finding():
    assert security.check_wildcards(facts(Policy("deny", "inline", document("*", "*", Effect="Deny")))) == []


def test_allowing_all_but_a_list_is_found():
    everything_else = {"Statement": {"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}}
    assert len(security.check_wildcards(facts(Policy("but", "inline", everything_else)))) == 1


@pytest.mark.parametrize("name", ["AmazonSageMakerFullAccess", "AdministratorAccess"])
def test_a_full_access_policy_is_found_by_name_even_if_unread(name):
    assert security.check_wildcards(facts(Policy(name, "aws")))[0].severity == "high"


def test_a_policy_that_could_not_be_read_is_unknown_not_a_pass():
    assert security.check_wildcards(facts(Policy("secret", "customer")))[0].severity == "unknown"


def test_a_wide_policy_that_hangs_on_nothing_is_found_as_medium():
    loose = facts(policies=(Policy("loose", "customer", document("*"), attachments=0),))
    assert [(f.severity, f.subject) for f in security.check_wildcards(loose)] == [("medium", "policy loose")]


def test_an_attached_customer_policy_is_reported_once():
    wide = Policy("wide", "customer", document("*"))
    assert len(security.check_wildcards(facts(wide, policies=(wide,)))) == 1


@pytest.mark.parametrize("created, used, severities", [(400, 91, ["medium"]), (400, 90, []), (91, None, ["medium"]), (3, None, ["low"])])
def test_old_and_never_used_roles_are_found_by_their_age(created, used, severities):
    assert [f.severity for f in security.check_stale_roles(aged(created, used))] == severities


def test_a_grace_period_spares_young_roles():
    assert security.check_stale_roles(aged(3), grace_days=30) == []


def test_roles_that_aws_keeps_are_not_judged():
    assert security.check_stale_roles(aged(400, path="/aws-service-role/lambda/")) == []


LOGS = "arn:aws:logs:us-east-1:123456789012:log-group:/aws/lambda/{}:*"
FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:{}"
ENDPOINT = "arn:aws:sagemaker:us-east-1:123456789012:endpoint/{}"


@pytest.mark.parametrize("arn", [LOGS, FUNCTION, ENDPOINT, FUNCTION + ":live"])
def test_a_policy_for_what_is_gone_is_found(arn):
    (finding,) = security.check_orphans(facts(Policy("p", "inline", document("x:Do", arn.format("dogs")))))
    assert finding.severity == "medium" and "dogs" in finding.evidence


@pytest.mark.parametrize("arn", [LOGS, FUNCTION, ENDPOINT])
def test_a_policy_for_what_exists_is_no_finding(arn):
    there = facts(Policy("p", "inline", document("x:Do", arn.format("dogs"))), functions=frozenset({"dogs"}), endpoints=frozenset({"Dogs"}))
    assert security.check_orphans(there) == []


@pytest.mark.parametrize("arn", [FUNCTION.format("dog*"), LOGS.format("*"), FUNCTION.replace("us-east-1", "eu-west-1").format("dogs"), "*"])
def test_wildcards_and_other_regions_are_not_judged_as_orphans(arn):
    assert security.check_orphans(facts(Policy("p", "inline", document("x:Do", arn)))) == []


def test_functions_that_could_not_be_listed_are_unknown_not_a_pass():
    (finding,) = security.check_orphans(facts(Policy("p", "inline", document("x:Do", FUNCTION.format("dogs"))), functions=None))
    assert finding.severity == "unknown"


def test_the_functions_own_policy_names_one_endpoint_and_has_no_wildcard(aws):
    policy = security.lambda_policy(aws, "dogs", "proxy")
    assert security.check_wildcards(facts(Policy("p", "inline", policy))) == []
    assert policy["Statement"][0]["Resource"] == [ENDPOINT.format("dogs")]
    assert {action for s in policy["Statement"] for action in s["Action"]} == {
        "sagemaker:InvokeEndpoint",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
    }


def test_the_training_policy_keeps_to_its_run_and_its_images(aws):
    policy = security.training_policy(aws, images=("123456789012.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.12-cpu-py312",))
    text = json.dumps(policy)
    assert security.check_wildcards(facts(Policy("p", "inline", policy))) == []
    assert "arn:aws:s3:::opml-local/opml/t/*" in text
    assert "arn:aws:ecr:us-east-1:123456789012:repository/pytorch-training" in text


def test_the_instance_policy_writes_only_its_results(aws):
    writes = [s for s in security.instance_policy(aws)["Statement"] if "s3:PutObject" in s["Action"]]
    assert [s["Resource"] for s in writes] == [["arn:aws:s3:::opml-local/opml/t/ec2/*"]]


def test_a_service_may_assume_a_role_for_this_account_only():
    condition = security.trust_policy("lambda.amazonaws.com", "123456789012")["Statement"][0]["Condition"]
    assert condition == {"StringEquals": {"aws:SourceAccount": "123456789012"}}
    assert "Condition" not in security.trust_policy("ec2.amazonaws.com", "123456789012")["Statement"][0]


def test_ensuring_a_role_twice_updates_it(aws):
    trust = security.trust_policy("lambda.amazonaws.com", aws.account)
    first = security.ensure_role(aws, "opml-t-r", trust, document("s3:GetObject"))
    assert first == security.ensure_role(aws, "opml-t-r", trust, document("s3:PutObject"))
    kept = aws.client("iam").get_role_policy(RoleName="opml-t-r", PolicyName="opml")["PolicyDocument"]
    assert kept["Statement"][0]["Action"] == "s3:PutObject"
    assert aws.client("iam").list_role_tags(RoleName="opml-t-r")["Tags"] == aws.tags


def test_the_review_finds_all_three_planted_sins(aws):
    arns = security.plant_sins(aws)
    found = security.review(security.collect(aws))
    assert len(arns) == 3 and list(found.columns) == ["severity", "question", "subject", "evidence", "fix"]
    pairs = set(zip(found["question"], found["subject"], strict=True))
    assert ("allows too much", "role opml-t-sin-full-access") in pairs
    assert ("not used", "role opml-t-sin-never-used") in pairs
    assert ("names what is gone", "policy opml-t-sin-orphan") in pairs
    assert found["severity"].iloc[0] == "high"


def test_sins_are_planted_once_and_nobody_can_use_them(aws):
    assert security.plant_sins(aws) == security.plant_sins(aws)
    trust = aws.client("iam").get_role(RoleName="opml-t-sin-full-access")["Role"]["AssumeRolePolicyDocument"]
    assert {s["Effect"] for s in trust["Statement"]} == {"Deny"}


def test_a_refused_read_becomes_a_finding_and_the_review_goes_on(aws, monkeypatch):
    def refuse(*args, **kwargs):
        raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "ListFunctions")

    monkeypatch.setattr(aws.client("lambda"), "get_paginator", refuse)
    found = security.review(security.collect(aws))
    assert list(found["severity"]) == ["unknown"] and "functions" in found["subject"][0]


def test_an_empty_account_gives_an_empty_table_with_its_columns(aws):
    found = security.review(security.collect(aws))
    assert found.empty and "severity" in found.columns


def test_removed_sins_are_found_no_more_and_removing_twice_is_fine(aws):
    security.plant_sins(aws)
    for _ in range(2):
        security.remove_sins(aws)
    assert not [finding for finding in security.check_wildcards(security.collect(aws)) if "-sin-" in finding.subject]
