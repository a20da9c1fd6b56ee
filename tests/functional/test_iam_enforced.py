"""What a policy does not allow is refused, with AWS's code and words, in every protocol and for whatever acts in a role's name."""

import io
import json
import zipfile

import pytest
from people import People, allow, deny, document, refused

from opml import policies

ACCOUNT = "123456789012"
SAGEMAKER = f"arn:aws:sagemaker:us-east-1:{ACCOUNT}"
ASK = """
import boto3
from botocore.exceptions import ClientError

def handler(event, context):
    try:
        boto3.client("sagemaker-runtime").invoke_endpoint(EndpointName=event["endpoint"], Body=b"x")
    except ClientError as error:
        return [error.response["Error"]["Code"], error.response["Error"]["Message"]]
"""


@pytest.fixture(scope="module")
def people(local_aws):
    return People(local_aws)


@pytest.fixture(scope="module")
def nobody(people):
    """A user who may do next to nothing."""
    return people.user(allow("sagemaker:ListModels"))


def because(person, action, resource=None):
    place = f" on resource: {resource}" if resource else ""
    return f"User: {person.arn} is not authorized to perform: {action}{place} because no identity-based policy allows the {action} action"


# ---- the three of the issue -----------------------------------------------------------------------------------------------------


def test_the_functions_role_may_invoke_its_own_endpoint_and_no_other(aws, served):
    policy = policies.lambda_policy(aws, "opml-mine", "opml-asker")
    role = policies.ensure_role(aws, "opml-asker-role", policies.trust_policy("lambda.amazonaws.com", aws.account), policy)
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w") as zipped:
        zipped.writestr("app.py", ASK)
    client, settings = served.client("lambda"), {"Runtime": "python3.12", "Handler": "app.handler", "Timeout": 20}
    client.create_function(FunctionName="opml-asker", Role=role, Code={"ZipFile": package.getvalue()}, **settings)
    answers = {name: ask(client, name) for name in ("opml-mine", "opml-theirs")}
    client.delete_function(FunctionName="opml-asker")
    assert answers["opml-mine"][0] == "ValidationError"  # let through, and not there
    assert answers["opml-theirs"] == [
        "AccessDeniedException",
        f"User: arn:aws:sts::{ACCOUNT}:assumed-role/opml-asker-role/opml-asker is not authorized to perform: sagemaker:InvokeEndpoint on "
        f"resource: {SAGEMAKER}:endpoint/opml-theirs because no identity-based policy allows the sagemaker:InvokeEndpoint action",
    ]


def ask(client, endpoint):
    answer = client.invoke(FunctionName="opml-asker", Payload=json.dumps({"endpoint": endpoint}))
    return json.loads(answer["Payload"].read())


@pytest.fixture(scope="module")
def run_role(aws, people):
    """The role of ``opml.policies.training_policy``: it reads and writes one run's folder."""
    return people.role("sagemaker", *policies.training_policy(aws)["Statement"])


def run_job(jobs, aws, role, prefix):
    """A job with its code and output in the run's folder, and its channel anywhere."""
    channel = {"S3DataType": "S3Prefix", "S3Uri": jobs.put(f"{prefix}/a.txt").rsplit("/", 1)[0]}
    request = jobs.request("open('/dev/null')", channel=channel, RoleArn=role)
    source = json.loads(request["HyperParameters"]["sagemaker_submit_directory"])
    body = jobs.s3.get_object(Bucket=jobs.bucket, Key=source.split("/", 3)[3])["Body"].read()
    staged = jobs.put(f"opml/{aws.run_id}/code/{request['TrainingJobName']}.tar.gz", body)
    request["HyperParameters"]["sagemaker_submit_directory"] = json.dumps(staged)
    request["OutputDataConfig"] = {"S3OutputPath": aws.uri("out")}
    jobs.sagemaker.create_training_job(**request)
    return jobs.wait(request["TrainingJobName"])


def test_a_training_role_reads_the_runs_own_folder(jobs, aws, run_role):
    job = run_job(jobs, aws, run_role, f"opml/{aws.run_id}/own")
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")


def test_a_training_role_that_reads_another_prefix_fails_the_job(jobs, aws, run_role):
    job = run_job(jobs, aws, run_role, "opml/another/data")
    resource = f"arn:aws:s3:::{jobs.bucket}/opml/another/data/a.txt"
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"] == (
        f"ClientError: Data download failed:Unable to download object s3://{jobs.bucket}/opml/another/data/a.txt (AccessDenied: User: "
        f"arn:aws:sts::{ACCOUNT}:assumed-role/{run_role.rpartition('/')[2]}/SageMaker is not authorized to perform: s3:GetObject on "
        f'resource: "{resource}" because no identity-based policy allows the s3:GetObject action)'
    )


def test_a_role_that_may_not_list_fails_the_job(jobs, aws, people):
    role = people.role("sagemaker", allow("s3:GetObject", "arn:aws:s3:::*/*"))
    reason = run_job(jobs, aws, role, "data/iam")["FailureReason"]
    assert reason.startswith("ClientError: Data download failed:") and "s3:ListBucket" in reason


def test_a_role_that_may_not_fetch_the_code_fails_the_job(jobs, aws, people):
    role = people.role("sagemaker", allow("s3:ListBucket"), allow("s3:GetObject", "arn:aws:s3:::*/data/*"))
    reason = run_job(jobs, aws, role, "data/iam")["FailureReason"]
    assert "An error occurred (403) when calling the HeadObject operation: Forbidden" in reason


def test_a_model_that_its_role_may_not_write_fails_the_job(jobs, people):
    role = people.role("sagemaker", allow(["s3:GetObject", "s3:ListBucket"]))
    job = jobs.run("import os; open(os.environ['SM_MODEL_DIR'] + '/m', 'w').write('x')", RoleArn=role)
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("ClientError: Artifact upload failed:Unable to upload object s3://")
    assert "s3:PutObject" in job["FailureReason"]


def test_a_role_that_may_not_write_logs_has_a_job_without_logs(jobs, people):
    role = people.role("sagemaker", allow("s3:*"))
    job = jobs.run("print('unheard')", RoleArn=role)
    assert (job["TrainingJobStatus"], jobs.log(job["TrainingJobName"])) == ("Completed", {})


def test_a_role_is_not_passed_to_a_service_that_it_does_not_trust(jobs, people, served):
    role = people.role("lambda")
    code, text, status = refused(jobs.sagemaker.create_training_job, **jobs.request("pass", RoleArn=role))
    assert (code, status) == ("ValidationException", 400)
    assert text == (
        f"Could not assume role {role}. Please ensure that the role exists and allows principal 'sagemaker.amazonaws.com' to assume the "
        "role."
    )
    request = {"FunctionName": "f", "Runtime": "python3.12", "Handler": "a.b", "Code": {"ZipFile": b"x"}, "Role": jobs.role_arn}
    code, text, _ = refused(served.client("lambda").create_function, **request)
    assert (code, text) == ("InvalidParameterValueException", "The role defined for the function cannot be assumed by Lambda.")


def test_a_role_is_passed_only_to_the_service_that_the_policy_names(jobs, people):
    role = jobs.role_arn
    passing = {"Condition": {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}}}
    person = people.user(allow("sagemaker:*"), allow("iam:PassRole", role, **passing))
    code, text, status = refused(person.client("sagemaker").create_training_job, **jobs.request("pass", RoleArn=role))
    assert (code, status, text) == ("AccessDeniedException", 400, because(person, "iam:PassRole", role))
    right = people.user(allow("sagemaker:*"), allow("iam:PassRole", role))
    request = jobs.request("pass", RoleArn=role)
    right.client("sagemaker").create_training_job(**request)
    jobs.wait(request["TrainingJobName"])


# ---- every protocol -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "operation", "arguments", "code", "status", "action", "resource"),
    [
        ("s3", "get_object", {"Bucket": "b", "Key": "k/1"}, "AccessDenied", 403, "s3:GetObject", '"arn:aws:s3:::b/k/1"'),
        ("s3", "list_objects_v2", {"Bucket": "b"}, "AccessDenied", 403, "s3:ListBucket", '"arn:aws:s3:::b"'),
        ("s3", "list_buckets", {}, "AccessDenied", 403, "s3:ListAllMyBuckets", None),
        ("s3", "put_public_access_block", {"Bucket": "b", "PublicAccessBlockConfiguration": {}}, "AccessDenied", 403,
         "s3:PutBucketPublicAccessBlock", '"arn:aws:s3:::b"'),
        ("iam", "get_role", {"RoleName": "absent"}, "AccessDenied", 403, "iam:GetRole", f"arn:aws:iam::{ACCOUNT}:role/absent"),
        ("ssm", "get_parameter", {"Name": "/aws/service/x"}, "AccessDeniedException", 400, "ssm:GetParameter",
         "arn:aws:ssm:us-east-1::parameter/aws/service/x"),
        ("sagemaker", "describe_endpoint", {"EndpointName": "Dog"}, "AccessDeniedException", 400, "sagemaker:DescribeEndpoint",
         f"{SAGEMAKER}:endpoint/dog"),
        ("sagemaker", "create_endpoint", {"EndpointName": "e", "EndpointConfigName": "c"}, "AccessDeniedException", 400,
         "sagemaker:CreateEndpoint", f"{SAGEMAKER}:endpoint/e"),
        ("sagemaker-runtime", "invoke_endpoint", {"EndpointName": "dog", "Body": b"x"}, "AccessDeniedException", 403,
         "sagemaker:InvokeEndpoint", f"{SAGEMAKER}:endpoint/dog"),
        ("lambda", "invoke", {"FunctionName": "f", "Qualifier": "live"}, "AccessDeniedException", 403, "lambda:InvokeFunction",
         f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:f:live"),
        ("logs", "get_log_events", {"logGroupName": "/g", "logStreamName": "s"}, "AccessDeniedException", 400, "logs:GetLogEvents",
         f"arn:aws:logs:us-east-1:{ACCOUNT}:log-group:/g:log-stream:s"),
        ("cloudwatch", "delete_alarms", {"AlarmNames": ["a"]}, "AccessDenied", 403, "cloudwatch:DeleteAlarms",
         f"arn:aws:cloudwatch:us-east-1:{ACCOUNT}:alarm:a"),
        ("application-autoscaling", "describe_scalable_targets", {"ServiceNamespace": "sagemaker"}, "AccessDeniedException", 400,
         "application-autoscaling:DescribeScalableTargets", None),
        ("cloudtrail", "lookup_events", {}, "AccessDeniedException", 400, "cloudtrail:LookupEvents", None),
    ],
)  # fmt: skip
def test_what_no_policy_allows_is_refused_in_the_services_own_way(nobody, service, operation, arguments, code, status, action, resource):
    found = refused(getattr(nobody.client(service), operation), **arguments)
    assert found == (code, because(nobody, action, resource), status)


def test_ec2_has_its_own_code_and_sentence(nobody):
    code, text, status = refused(nobody.client("ec2").describe_instances)
    assert (code, status) == ("UnauthorizedOperation", 403)
    assert text == f"You are not authorized to perform this operation. {because(nobody, 'ec2:DescribeInstances')}"


def test_who_asks_who_they_are_needs_no_permission(nobody):
    assert nobody.client("sts").get_caller_identity()["Arn"] == nobody.arn


def test_a_narrow_policy_allows_just_what_it_names(people, local_aws):
    bucket = local_aws.bucket
    listed = {"Condition": {"StringLike": {"s3:prefix": ["data/*"]}}}
    person = people.user(
        allow("s3:ListBucket", f"arn:aws:s3:::{bucket}", **listed),
        allow("s3:PutObject", f"arn:aws:s3:::{bucket}/data/${{aws:username}}/*"),
        allow("logs:CreateLogGroup", "arn:aws:logs:*:*:log-group:/mine/*"), allow("ec2:Describe*"),
        allow("cloudwatch:PutMetricData", Condition={"StringEquals": {"cloudwatch:namespace": "mine"}}),
    )  # fmt: skip
    s3, logs, metrics = (person.client(name) for name in ("s3", "logs", "cloudwatch"))
    s3.list_objects_v2(Bucket=bucket, Prefix="data/x")
    s3.put_object(Bucket=bucket, Key=f"data/{person.arn.rsplit('/')[-1]}/x", Body=b"x")
    logs.create_log_group(logGroupName="/mine/x")
    metrics.put_metric_data(Namespace="mine", MetricData=[{"MetricName": "m", "Value": 1.0}])
    person.client("ec2").describe_regions()
    assert refused(s3.list_objects_v2, Bucket=bucket)[0] == "AccessDenied"
    assert refused(s3.put_object, Bucket=bucket, Key="data/another/x", Body=b"x")[0] == "AccessDenied"
    assert refused(logs.create_log_group, logGroupName="/theirs")[0] == "AccessDeniedException"
    assert refused(metrics.put_metric_data, Namespace="theirs", MetricData=[{"MetricName": "m", "Value": 1.0}])[0] == "AccessDenied"


def test_an_instance_is_launched_only_as_the_policy_says(people, local_aws):
    image = local_aws.client("ec2").describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    small = {"Condition": {"StringEqualsIfExists": {"ec2:InstanceType": "t3.micro"}}}
    ec2 = people.user(allow("ec2:RunInstances", **small)).client("ec2")
    wanted = {"ImageId": image, "MinCount": 1, "MaxCount": 1, "DryRun": True}
    assert refused(ec2.run_instances, InstanceType="t3.micro", **wanted)[0] == "DryRunOperation"
    assert refused(ec2.run_instances, InstanceType="p4d.24xlarge", **wanted)[0] == "UnauthorizedOperation"


def test_to_create_with_tags_needs_the_right_to_tag(people, jobs):
    person = people.user(allow(["sagemaker:CreateModel", "iam:PassRole"]))
    model = {"ModelName": "tagged", "ExecutionRoleArn": jobs.role_arn, "PrimaryContainer": {"Image": "image:1"}}
    _, text, _ = refused(person.client("sagemaker").create_model, **model, Tags=[{"Key": "a", "Value": "b"}])
    assert text == because(person, "sagemaker:AddTags", f"{SAGEMAKER}:model/tagged")


def test_a_model_whose_role_cannot_read_its_data_is_refused(jobs, people):
    role, uri = people.role("sagemaker", allow("s3:ListBucket")), jobs.put("iam/model.tar.gz")
    model = {"ModelName": "unreadable", "ExecutionRoleArn": role, "PrimaryContainer": {"Image": "image:1", "ModelDataUrl": uri}}
    code, text, _ = refused(jobs.sagemaker.create_model, **model)
    assert code == "ValidationException" and text.startswith(f"Could not access model data at {uri}. Please ensure that the role")


# ---- roles, sessions, buckets ---------------------------------------------------------------------------------------------------


def test_a_role_is_assumed_only_by_whom_it_trusts(people):
    person = people.user(allow("sts:AssumeRole"))
    role = people.role("lambda")
    assume = {"RoleArn": role, "RoleSessionName": "test"}
    expected = f"User: {person.arn} is not authorized to perform: sts:AssumeRole on resource: {role}"
    assert refused(person.client("sts").assume_role, **assume) == ("AccessDenied", expected, 403)
    trust = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "sts:AssumeRole"}
    people.iam.update_assume_role_policy(RoleName=role.rsplit("/")[-1], PolicyDocument=document(trust))
    assert "Credentials" in person.client("sts").assume_role(**assume)
    assert refused(people.user(allow("s3:*")).client("sts").assume_role, **assume)[0] == "AccessDenied"


def test_a_session_does_not_outlive_its_role(people, local_aws):
    role = people.role("sagemaker")
    s3 = people.session(role).client("s3")
    people.iam.delete_role(RoleName=role.rsplit("/")[-1])
    assert refused(s3.list_buckets)[0] == "InvalidAccessKeyId"


def test_a_session_policy_takes_rights_away(people, local_aws):
    role = people.role("sagemaker", allow("s3:*"))
    s3 = people.session(role, Policy=document(allow("s3:ListBucket"))).client("s3")
    s3.list_objects_v2(Bucket=local_aws.bucket)
    assert refused(s3.put_object, Bucket=local_aws.bucket, Key="x", Body=b"x")[1].endswith(
        "because no session policy allows the s3:PutObject action"
    )


def test_a_permissions_boundary_takes_rights_away(people):
    role, limit = people.role("ec2", allow("*")), document(allow("s3:*"))
    boundary = people.iam.create_policy(PolicyName="boundary", PolicyDocument=limit)["Policy"]["Arn"]
    people.iam.put_role_permissions_boundary(RoleName=role.rsplit("/")[-1], PermissionsBoundary=boundary)
    session = people.session(role)
    session.client("s3").list_buckets()
    assert refused(session.client("ec2").describe_instances)[1].endswith(
        "because no permissions boundary allows the ec2:DescribeInstances action"
    )


def test_a_managed_policy_of_aws_works(people, local_aws):
    person = people.user()
    managed = "arn:aws:iam::aws:policy/AmazonSageMakerFullAccess"
    people.iam.attach_user_policy(UserName=person.arn.rsplit("/")[-1], PolicyArn=managed)
    person.client("sagemaker").list_training_jobs()
    person.client("s3").put_object(Bucket=local_aws.bucket, Key="full/x", Body=b"x")  # its name has "sagemaker" in it
    local_aws.client("s3").create_bucket(Bucket="plain-bucket")
    assert refused(person.client("s3").put_object, Bucket="plain-bucket", Key="x", Body=b"x")[0] == "AccessDenied"


def test_a_buckets_policy_refuses_and_its_conditions_count(people, local_aws):
    owner, bucket = local_aws.client("s3"), "bucket-with-policy"
    owner.create_bucket(Bucket=bucket)
    secure = deny("s3:*", [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"], Condition={"Bool": {"aws:SecureTransport": "false"}})
    secret = deny("s3:GetObject", f"arn:aws:s3:::{bucket}/secret/*")
    owner.put_bucket_policy(Bucket=bucket, Policy=document({**secure, "Principal": "*"}, {**secret, "Principal": "*"}))
    for key in ("plain", "secret/x"):
        owner.put_object(Bucket=bucket, Key=key, Body=b"x")
    s3 = people.user(allow("s3:*")).client("s3")
    assert s3.get_object(Bucket=bucket, Key="plain")["Body"].read() == b"x"
    assert refused(s3.get_object, Bucket=bucket, Key="secret/x")[1].endswith("with an explicit deny in a resource-based policy")


def test_several_objects_are_deleted_only_if_each_may_be(people, local_aws):
    bucket = local_aws.bucket
    s3 = people.user(allow("s3:DeleteObject", f"arn:aws:s3:::{bucket}/mine/*")).client("s3")
    errors = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "mine/a"}, {"Key": "theirs/a"}]})["Errors"]
    assert {error["Code"] for error in errors} == {"AccessDenied"}
    assert "Errors" not in s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "mine/a"}, {"Key": "mine/b"}]})


def test_the_instances_role_reads_its_runs_data_and_nothing_else(aws, people):
    role = policies.ensure_role(
        aws, "opml-instance", policies.trust_policy("ec2.amazonaws.com", aws.account), policies.instance_policy(aws)
    )
    s3 = people.session(role).client("s3")
    people.local.client("s3").put_object(Bucket=aws.bucket, Key=f"opml/{aws.run_id}/data/x", Body=b"x")
    assert s3.get_object(Bucket=aws.bucket, Key=f"opml/{aws.run_id}/data/x")["Body"].read() == b"x"
    assert refused(s3.get_object, Bucket=aws.bucket, Key=f"opml/{aws.run_id}/models/x")[0] == "AccessDenied"
    assert refused(s3.list_objects_v2, Bucket=aws.bucket)[0] == "AccessDenied"
