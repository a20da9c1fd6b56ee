"""The four roles on the local AWS: whose calls are whose, and what each is refused, in AWS's words."""

import json

import pytest
from people import People, refused

from opml import aws as gate
from opml import functions, policies, resources

ACCOUNT = "123456789012"
OPERATOR = f"arn:aws:sts::{ACCOUNT}:assumed-role/OpmlOperator/notebooks"


@pytest.fixture(scope="module")
def people(local_aws):
    return People(local_aws)


def denied(who, action, resource):
    reason = f"because no identity-based policy allows the {action} action"
    return f"User: {who} is not authorized to perform: {action} on resource: {resource} {reason}"


@pytest.fixture(scope="module")
def function_role(aws):
    yield functions.ensure_role(aws, "opml-tests-endpoint", "opml-tests-function")
    resources.teardown(aws)


def test_who_connects_is_the_operator_and_hands_on_the_projects_role(aws):
    assert aws.client("sts").get_caller_identity()["Arn"] == OPERATOR
    assert aws.role_arn == f"arn:aws:iam::{ACCOUNT}:role/opml/OpmlExecution"


def test_to_connect_again_makes_nothing_new_and_stays_the_operator(aws, local_aws):
    before = local_aws.client("iam").get_role(RoleName="OpmlOperator")["Role"]["RoleId"]
    assert gate.connect("local", run_id="tests-2").client("sts").get_caller_identity()["Arn"] == OPERATOR
    assert local_aws.client("iam").get_role(RoleName="OpmlOperator")["Role"]["RoleId"] == before


def test_credentials_that_are_not_the_owners_are_used_as_they_are(aws, people, monkeypatch):
    person = people.user()
    monkeypatch.delenv("AWS_SESSION_TOKEN")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", person.keys[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", person.keys[1])
    assert gate.connect("local", run_id="tests").client("sts").get_caller_identity()["Arn"] == person.arn


def test_the_function_may_not_invoke_another_endpoint(people, function_role):
    function = people.session(function_role)
    resource = f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:endpoint/opml-another"
    found = refused(function.client("sagemaker-runtime").invoke_endpoint, EndpointName="opml-another", Body=b"x")
    assert found == ("AccessDeniedException", denied(function.arn, "sagemaker:InvokeEndpoint", resource), 403)


def test_the_execution_role_may_not_read_another_prefix(people, aws):
    jobs = people.session(aws.role_arn)
    found = refused(jobs.client("s3").get_object, Bucket=aws.bucket, Key="private/x")
    assert found == ("AccessDenied", denied(jobs.arn, "s3:GetObject", f'"arn:aws:s3:::{aws.bucket}/private/x"'), 403)


def test_the_operator_may_not_pass_a_role_to_the_wrong_service(aws, function_role):
    model = {"ModelName": "opml-tests-model", "PrimaryContainer": {"Image": "image:1"}, "ExecutionRoleArn": function_role}
    found = refused(aws.client("sagemaker").create_model, **model)
    assert found == ("AccessDeniedException", denied(OPERATOR, "iam:PassRole", function_role), 400)
    request = functions.create_request(aws, "opml-tests-wrong", aws.role_arn, "opml-tests-endpoint")
    found = refused(aws.client("lambda").create_function, **request)
    assert found == ("AccessDeniedException", denied(OPERATOR, "iam:PassRole", aws.role_arn), 403)


def test_the_operator_makes_no_role_without_the_boundary(aws):
    trust = json.dumps(policies.trust_policy("lambda.amazonaws.com", ACCOUNT))
    found = refused(aws.client("iam").create_role, RoleName="opml-tests-free", AssumeRolePolicyDocument=trust)
    assert found == ("AccessDenied", denied(OPERATOR, "iam:CreateRole", f"arn:aws:iam::{ACCOUNT}:role/opml-tests-free"), 403)


def test_the_operator_cannot_grant_themselves_anything(aws):
    change = {"RoleName": "OpmlOperator", "PolicyName": "more", "PolicyDocument": json.dumps(policies.policy_document())}
    code, text, _ = refused(aws.client("iam").put_role_policy, **change)
    assert (code, text) == ("AccessDenied", denied(OPERATOR, "iam:PutRolePolicy", f"arn:aws:iam::{ACCOUNT}:role/opml/OpmlOperator"))


def test_whatever_an_operators_role_is_granted_the_boundary_holds(aws, people, function_role):
    everything = policies.policy_document(policies.allow("All", ["*"], ["*"]))
    trust = policies.trust_policy("lambda.amazonaws.com", ACCOUNT)
    session = people.session(policies.ensure_role(aws, aws.name("greedy"), trust, everything))
    code, text, _ = refused(session.client("iam").list_users)
    assert code == "AccessDenied" and text.endswith("because no permissions boundary allows the iam:ListUsers action")


@pytest.mark.parametrize(
    ("tagged", "answer"),
    [(["instance", "volume"], "DryRunOperation"), (["volume"], "UnauthorizedOperation"), ([], "UnauthorizedOperation")],
)
def test_an_instance_is_launched_only_with_our_tag_of_its_own(tagged, answer, aws, local_aws):
    image = local_aws.client("ec2").describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    tags = [{"ResourceType": kind, "Tags": aws.tags} for kind in tagged]
    request = {"ImageId": image, "MinCount": 1, "MaxCount": 1, "DryRun": True, **({"TagSpecifications": tags} if tags else {})}
    assert refused(aws.client("ec2").run_instances, **request)[0] == answer


def test_an_instance_is_ended_only_if_it_is_ours(aws, local_aws):
    owner = local_aws.client("ec2")
    image = owner.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    tags = [{"ResourceType": "instance", "Tags": aws.tags}]
    ours, theirs = (
        owner.run_instances(ImageId=image, MinCount=1, MaxCount=1, **more)["Instances"][0]["InstanceId"]
        for more in ({"TagSpecifications": tags}, {})
    )
    assert refused(aws.client("ec2").terminate_instances, InstanceIds=[theirs])[0] == "UnauthorizedOperation"
    aws.client("ec2").terminate_instances(InstanceIds=[ours])
    owner.terminate_instances(InstanceIds=[theirs])
