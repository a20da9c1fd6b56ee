"""What IAM and CloudTrail tell of permissions and of what really happened."""

import json

import pytest
from people import People, allow, deny, document, refused


@pytest.fixture(scope="module")
def people(local_aws):
    return People(local_aws)


def test_the_simulator_answers_as_the_gate_would(people):
    role = people.role("sagemaker", allow("s3:GetObject", "arn:aws:s3:::b/data/*"), deny("s3:DeleteObject"))
    asked = {"ActionNames": ["s3:GetObject", "s3:DeleteObject"], "ResourceArns": ["arn:aws:s3:::b/data/x", "arn:aws:s3:::b/y"]}
    results = people.iam.simulate_principal_policy(PolicySourceArn=role, **asked)["EvaluationResults"]
    assert [result["EvalDecision"] for result in results] == ["allowed", "implicitDeny", "explicitDeny", "explicitDeny"]


def test_the_simulator_takes_a_policy_and_a_context(people):
    policy = document(allow("s3:ListBucket", Condition={"StringLike": {"s3:prefix": "data/*"}}))
    entry = {"ContextKeyName": "s3:prefix", "ContextKeyValues": ["data/x"], "ContextKeyType": "string"}
    asked = {"PolicyInputList": [policy], "ActionNames": ["s3:ListBucket"]}
    decisions = [
        people.iam.simulate_custom_policy(**asked, ContextEntries=entries)["EvaluationResults"][0]["EvalDecision"]
        for entries in ([], [entry])
    ]
    assert decisions == ["implicitDeny", "allowed"]


def test_a_role_knows_when_it_was_used_last_and_for_what(people, local_aws):
    role = people.role("sagemaker", allow(["s3:ListBucket", "ecr:GetAuthorizationToken"]))
    name = role.rsplit("/")[-1]
    assert people.iam.get_role(RoleName=name)["Role"].get("RoleLastUsed", {}) == {}
    people.session(role).client("s3").list_objects_v2(Bucket=local_aws.bucket)
    assert people.iam.get_role(RoleName=name)["Role"]["RoleLastUsed"]["Region"] == "us-east-1"
    job = people.iam.generate_service_last_accessed_details(Arn=role)["JobId"]
    report = people.iam.get_service_last_accessed_details(JobId=job)
    used = {one["ServiceNamespace"]: "LastAuthenticated" in one for one in report["ServicesLastAccessed"]}
    assert (report["JobStatus"], used) == ("COMPLETED", {"ecr": False, "s3": True})


def test_cloudtrail_tells_who_did_what_and_what_was_refused(people):
    nobody = people.user()
    refused(nobody.client("sagemaker").describe_model, ModelName="unheard-of")
    trail = people.local.client("cloudtrail")
    given = {"AttributeKey": "ResourceName", "AttributeValue": "unheard-of"}
    event = trail.lookup_events(LookupAttributes=[given])["Events"][0]
    record = json.loads(event["CloudTrailEvent"])
    assert (event["EventName"], event["EventSource"], event["Username"]) == (
        "DescribeModel", "sagemaker.amazonaws.com", nobody.arn.rsplit("/")[-1],
    )  # fmt: skip
    assert (record["errorCode"], record["userIdentity"]["arn"], record["readOnly"]) == ("AccessDeniedException", nobody.arn, True)


def test_cloudtrail_pages_through_the_newest_first(people):
    trail = people.local.client("cloudtrail")
    pages = trail.get_paginator("lookup_events").paginate(PaginationConfig={"PageSize": 5, "MaxItems": 12})
    events = [event for page in pages for event in page["Events"]]
    times = [event["EventTime"] for event in events]
    assert len(times) == 12 and times == sorted(times, reverse=True)
    assert len({event["EventId"] for event in events}) == 12  # though each look is an event that comes first in the next


def test_a_token_of_no_lookup_is_refused(people):
    assert refused(people.local.client("cloudtrail").lookup_events, NextToken="x")[0] == "InvalidNextTokenException"


def test_what_is_not_there_is_said_in_awss_words(people):
    assert refused(people.iam.get_role, RoleName="none") == ("NoSuchEntity", "The role with name none cannot be found.", 404)
    assert refused(people.iam.delete_role, RoleName="none")[:2] == ("NoSuchEntity", "The role with name none cannot be found.")
    assert refused(people.iam.get_user, UserName="nobody")[1] == "The user with name nobody cannot be found."
