"""Requests held against the API model: values in, AWS's sentences out."""

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel

from opml.localaws.constraints import matches, violations

MODELS = {}
NAME = "[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"


def judged(service, operation, value):
    if service not in MODELS:
        MODELS[service] = ServiceModel(Loader().load_service_model(service, "service-2"), service)
    return violations(MODELS[service].operation_model(operation).input_shape, value)


@pytest.mark.parametrize(
    ("service", "operation", "value", "said"),
    [
        ("sagemaker", "DescribeTrainingJob", {"TrainingJobName": "bad_name"},
         f"Value 'bad_name' at 'trainingJobName' failed to satisfy constraint: Member must satisfy regular expression pattern: {NAME}"),
        ("sagemaker", "ListTrainingJobs", {"MaxResults": 101},
         "Value '101' at 'maxResults' failed to satisfy constraint: Member must have value less than or equal to 100"),
        ("sagemaker", "ListTrainingJobs", {"SortBy": "Age"},
         "Value 'Age' at 'sortBy' failed to satisfy constraint: Member must satisfy enum value set: [Name, CreationTime, Status]"),
        ("sagemaker", "CreateTrainingJob", {"InputDataConfig": [{"ChannelName": "a b"}]},
         "Value 'a b' at 'inputDataConfig.1.member.channelName' failed to satisfy constraint: Member must satisfy regular expression "
         r"pattern: [A-Za-z0-9\.\-_]+"),
        ("sagemaker", "CreateTrainingJob", {"ResourceConfig": {"InstanceCount": -1, "VolumeSizeInGB": 1}},
         "Value '-1' at 'resourceConfig.instanceCount' failed to satisfy constraint: Member must have value greater than or equal to 0"),
        ("sagemaker", "CreateTrainingJob", {"HyperParameters": {"a": "x" * 2501}},
         f"Value '{{a={'x' * 2501}}}' at 'hyperParameters' failed to satisfy constraint: Map value must satisfy constraint: [Member must "
         "have length less than or equal to 2500, Member must have length greater than or equal to 0, Member must satisfy regular "
         "expression pattern: .*]"),
        ("lambda", "CreateFunction", {"MemorySize": 64},
         "Value '64' at 'memorySize' failed to satisfy constraint: Member must have value greater than or equal to 128"),
        ("lambda", "CreateFunction", {"VpcConfig": {"SubnetIds": ["subnet-1"] * 17}},
         f"Value '[{', '.join(['subnet-1'] * 17)}]' at 'vpcConfig.subnetIds' failed to satisfy constraint: Member must have length less "
         "than or equal to 16"),
        ("iam", "CreateRole", {"RoleName": "x" * 65},
         f"Value '{'x' * 65}' at 'roleName' failed to satisfy constraint: Member must have length less than or equal to 64"),
    ],
)  # fmt: skip
def test_what_breaks_a_constraint_is_said_in_aws_words(service, operation, value, said):
    assert judged(service, operation, value) == [said]


@pytest.mark.parametrize(
    ("service", "operation", "value"),
    [
        ("sagemaker", "DescribeTrainingJob", {"TrainingJobName": "a-1"}),
        ("sagemaker", "AddTags", {"Tags": [{"Key": "opml:run_id", "Value": "Düsseldorf 7"}]}),
        ("sagemaker", "CreateTrainingJob", {"Environment": {"A": ""}, "HyperParameters": {}}),
        ("application-autoscaling", "PutScalingPolicy", {"PolicyName": "a policy: 1", "ResourceId": "endpoint/a/variant/b"}),
        ("sagemaker-runtime", "InvokeEndpoint", {"EndpointName": "a", "Body": b"x" * 10, "ContentType": "image/jpeg"}),
        ("lambda", "GetFunction", {"FunctionName": "arn:aws:lambda:us-east-1:123456789012:function:f:live"}),
    ],
)
def test_what_keeps_all_constraints_is_not_spoken_of(service, operation, value):
    assert judged(service, operation, value) == []


def test_each_broken_constraint_is_a_sentence_of_its_own():
    assert len(judged("sagemaker", "ListTrainingJobs", {"MaxResults": 0, "SortBy": "Age", "NameContains": "_"})) == 3


def test_a_sensitive_value_is_not_repeated():
    (said,) = judged("lambda", "CreateFunction", {"Environment": {"Variables": {"1 bad name": "secret"}}})
    assert "secret" not in said and said.startswith("Value at 'environment.variables' failed to satisfy constraint: Map keys must satisfy")


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        (r"[a-z]+", "abc1", False), (r"^[a-z]+$", "abc", True), (r"[a-z]+", "abc\n", False),  # the whole value, however it is written
        (r"\p{ASCII}*", "é", False), (r"[\p{L}\p{Z}\p{N}_.:/=+\-@]*", "Ärger 7", True), (r"\A\S[\p{Print}]*\z", " a", False),
        (r"[\u0020-\uD7FF\uE000-\uFFFD\uD800\uDC00-\uDBFF\uDFFF\t]*", "dog \U0001f415", True), (r"[\w-_]*", "a-b_c", True),
    ],
)  # fmt: skip
def test_patterns_are_read_as_java_reads_them(pattern, text, fits):
    assert matches(pattern, text) is fits


@pytest.mark.parametrize(
    "service",
    [
        "sagemaker",
        "sagemaker-runtime",
        "lambda",
        "application-autoscaling",
        "iam",
        "sts",
        "logs",
        "cloudwatch",
        "ec2",
        "s3",
        "ssm",
        "cloudtrail",
    ],
)
def test_every_pattern_of_the_services_that_we_use_can_be_read(service):
    shapes = Loader().load_service_model(service, "service-2")["shapes"].values()
    for pattern in {shape["pattern"] for shape in shapes if "pattern" in shape}:
        matches(pattern, "")
