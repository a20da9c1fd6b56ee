"""The evaluator of IAM policies: documents in, a verdict out."""

import pytest

from opml.localaws.iam_policy import Grants, authorize, conditions_hold, evaluate, matches, naming

ENDPOINT = "arn:aws:sagemaker:us-east-1:123456789012:endpoint/dog"
OTHER = "arn:aws:sagemaker:us-east-1:123456789012:endpoint/cat"


def allow(action="*", resource="*", **more):
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(action="*", resource="*", **more):
    return {**allow(action, resource, **more), "Effect": "Deny"}


def document(*statements):
    return {"Version": "2012-10-17", "Statement": list(statements)}


def without(statement, name):
    return {key: value for key, value in statement.items() if key != name}


@pytest.mark.parametrize(
    ("statements", "action", "resource", "decision"),
    [
        ([], "s3:GetObject", "*", "implicitDeny"),
        ([allow("s3:GetObject")], "s3:GetObject", "arn:aws:s3:::b/k", "allowed"),
        ([allow("S3:getobject")], "s3:GetObject", "arn:aws:s3:::b/k", "allowed"),
        ([allow("s3:Get*")], "s3:PutObject", "arn:aws:s3:::b/k", "implicitDeny"),
        ([allow(["s3:PutObject", "s3:Get?bject"])], "s3:GetObject", "arn:aws:s3:::b/k", "allowed"),
        ([allow("s3:*", "arn:aws:s3:::b")], "s3:GetObject", "arn:aws:s3:::b/k", "implicitDeny"),
        ([allow("s3:*", "arn:aws:s3:::b/data/*")], "s3:GetObject", "arn:aws:s3:::b/data/x/y", "allowed"),
        ([allow("s3:*", "arn:aws:s3:::b/data/*")], "s3:GetObject", "arn:aws:s3:::b/secret/x", "implicitDeny"),
        ([allow("*", ENDPOINT)], "sagemaker:InvokeEndpoint", OTHER, "implicitDeny"),
        ([allow("*", ENDPOINT.upper())], "sagemaker:InvokeEndpoint", ENDPOINT, "implicitDeny"),
        ([allow(), deny("s3:DeleteObject")], "s3:DeleteObject", "arn:aws:s3:::b/k", "explicitDeny"),
        ([deny("s3:DeleteObject"), allow()], "s3:DeleteObject", "arn:aws:s3:::b/k", "explicitDeny"),
        ([allow(), deny("s3:*", "arn:aws:s3:::c/*")], "s3:GetObject", "arn:aws:s3:::b/k", "allowed"),
        ([without(allow(NotAction="iam:*"), "Action")], "s3:GetObject", "*", "allowed"),
        ([without(allow(NotAction=["iam:*", "sts:*"]), "Action")], "iam:CreateUser", "*", "implicitDeny"),
        ([allow(), without(deny(NotResource=ENDPOINT), "Resource")], "sagemaker:InvokeEndpoint", OTHER, "explicitDeny"),
        ([allow(), without(deny(NotResource=ENDPOINT), "Resource")], "sagemaker:InvokeEndpoint", ENDPOINT, "allowed"),
    ],
)
def test_actions_and_resources_decide(statements, action, resource, decision):
    assert evaluate([document(*statements)], action, resource, {}) == decision


def test_one_statement_need_not_be_a_list():
    assert evaluate([{"Statement": allow("s3:GetObject")}], "s3:GetObject", "arn:aws:s3:::b/k", {}) == "allowed"


@pytest.mark.parametrize(
    ("operator", "wanted", "value", "holds"),
    [
        ("StringEquals", "a", "a", True), ("StringEquals", ["a", "b"], "b", True), ("StringEquals", "a*", "ab", False),
        ("StringEquals", "a", "A", False), ("StringEqualsIgnoreCase", "a", "A", True), ("StringNotEquals", ["a", "b"], "b", False),
        ("StringNotEquals", ["a", "b"], "c", True), ("StringLike", "data/*", "data/x", True), ("StringLike", "data/*", "secret/x", False),
        ("StringNotLike", "data/*", "secret/x", True), ("StringNotEquals", "a", None, True), ("StringEquals", "a", None, False),
        ("StringEqualsIfExists", "a", None, True), ("StringEqualsIfExists", "a", "b", False), ("Bool", "true", "true", True),
        ("Bool", True, "true", True), ("Bool", "false", "true", False), ("Null", "true", None, True), ("Null", "true", "x", False),
        ("NumericLessThanEquals", "10", "10", True), ("NumericGreaterThan", "10", "9", False), ("NumericNotEquals", "1", "1.0", False),
        ("DateLessThan", "2030-01-01T00:00:00Z", "2026-11-21T10:00:00Z", True),
        ("DateGreaterThan", "2030-01-01T00:00:00Z", "1700000000", False), ("IpAddress", "127.0.0.0/8", "127.0.0.1", True),
        ("NotIpAddress", "127.0.0.0/8", "127.0.0.1", False), ("ArnLike", "arn:aws:sagemaker:*:*:endpoint/*", ENDPOINT, True),
        ("ArnLike", "arn:aws:sagemaker:*", ENDPOINT, False), ("ArnNotLike", "arn:aws:sagemaker:*:*:endpoint/*", ENDPOINT, False),
        ("ForAllValues:StringLike", ["ml.m5.*"], ["ml.m5.large", "ml.p3.2xlarge"], False),
        ("ForAllValues:StringLike", ["ml.m5.*"], ["ml.m5.large"], True), ("ForAllValues:StringEquals", "a", None, True),
        ("ForAnyValue:StringEquals", "a", ["b", "a"], True), ("ForAnyValue:StringEquals", "a", None, False),
    ],
)  # fmt: skip
def test_conditions_hold_as_iam_says(operator, wanted, value, holds):
    context = {} if value is None else {"aws:key": value}
    assert conditions_hold({operator: {"aws:Key": wanted}}, context) is holds


def test_all_operators_of_a_condition_must_hold():
    block = {"StringEquals": {"a:b": "1", "a:c": "2"}, "Bool": {"a:d": "true"}}
    assert conditions_hold(block, {"a:b": "1", "a:c": "2", "a:d": "true"})
    assert not conditions_hold(block, {"a:b": "1", "a:c": "2", "a:d": "false"})


def test_an_operator_that_iam_does_not_know_is_an_error():
    with pytest.raises(ValueError, match="StringSimilar"):
        conditions_hold({"StringSimilar": {"a:b": "1"}}, {"a:b": "1"})


def test_policy_variables_are_filled_in_as_text():
    home = [document(allow("s3:*", "arn:aws:s3:::b/${aws:username}/*"))]
    assert evaluate(home, "s3:GetObject", "arn:aws:s3:::b/ada/x", {"aws:username": "ada"}) == "allowed"
    assert evaluate(home, "s3:GetObject", "arn:aws:s3:::b/bob/x", {"aws:username": "ada"}) == "implicitDeny"
    assert evaluate(home, "s3:GetObject", "arn:aws:s3:::b/bob/x", {"aws:username": "*"}) == "implicitDeny"
    assert evaluate(home, "s3:GetObject", "arn:aws:s3:::b/bob/x", {}) == "implicitDeny"


def test_a_variable_may_have_a_default_and_stand_for_a_sign():
    assert evaluate([document(allow("*", "x/${aws:PrincipalTag/team, 'all'}"))], "a:B", "x/all", {}) == "allowed"
    assert evaluate([document(allow("*", "x/${*}"))], "a:B", "x/*", {}) == "allowed"
    assert evaluate([document(allow("*", "x/${*}"))], "a:B", "x/y", {}) == "implicitDeny"


def test_brackets_and_dots_of_a_pattern_are_just_signs():
    assert matches("a.[b]*", "a.[b]c") and not matches("a.[b]*", "axb")


@pytest.mark.parametrize(
    ("grants", "decision", "reason"),
    [
        (Grants((document(allow()),), boundary=(document(allow("s3:*")),)), "allowed", None),
        (Grants((document(allow()),), boundary=(document(allow("ec2:*")),)), "implicitDeny", "because no permissions boundary allows the"),
        (Grants((document(allow()),), session=(document(allow("ec2:*")),)), "implicitDeny", "because no session policy allows the"),
        (Grants((document(allow()),), session=(document(deny()),)), "explicitDeny", "with an explicit deny in a session policy"),
        (Grants((document(allow(), deny("s3:*")),)), "explicitDeny", "with an explicit deny in an identity-based policy"),
        (
            Grants((), boundary=(document(allow()),), session=(document(allow()),)),
            "implicitDeny",
            "because no identity-based policy allows",
        ),
    ],
)
def test_boundaries_and_session_policies_only_take_away(grants, decision, reason):
    verdict = authorize(grants, "s3:GetObject", "arn:aws:s3:::b/k", {})
    assert verdict.decision == decision
    assert reason is None or verdict.reason("s3:GetObject").startswith(reason)


def test_a_resource_based_policy_may_grant_or_refuse():
    assert authorize(Grants(), "s3:GetObject", "arn:aws:s3:::b/k", {}, [document(allow("s3:GetObject"))]).allowed
    verdict = authorize(Grants((document(allow()),)), "s3:GetObject", "arn:aws:s3:::b/k", {}, [document(deny())])
    assert verdict.reason("s3:GetObject") == "with an explicit deny in a resource-based policy"


@pytest.mark.parametrize(
    ("principal", "trusted"),
    [
        ({"Service": "lambda.amazonaws.com"}, True), ({"Service": ["sagemaker.amazonaws.com", "lambda.amazonaws.com"]}, True),
        ({"Service": "sagemaker.amazonaws.com"}, False), ({"AWS": "*"}, False), ("*", False),
    ],
)  # fmt: skip
def test_a_trust_policy_names_services(principal, trusted):
    trust = document({"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"})
    named = naming(trust, {"Service": {"lambda.amazonaws.com"}})
    assert (evaluate([named], "sts:AssumeRole", "arn:aws:iam::123456789012:role/r", {}) == "allowed") is trusted
