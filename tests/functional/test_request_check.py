"""What the API model forbids is refused by the local AWS as by AWS, in each protocol; botocore itself would let it pass."""

import pytest
from people import refused

KNOWN = "1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: Member must "
LONG = "x" * 129


@pytest.mark.parametrize(
    ("service", "operation", "arguments", "code", "value", "member", "rule"),
    [
        ("sagemaker", "describe_endpoint", {"EndpointName": "a_b"}, "ValidationException", "a_b", "endpointName",
         "satisfy regular expression pattern: [a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"),
        ("sagemaker-runtime", "invoke_endpoint", {"EndpointName": "a_b", "Body": b"x"}, "ValidationException", "a_b", "endpointName",
         "satisfy regular expression pattern: ^[a-zA-Z0-9](-*[a-zA-Z0-9])*"),
        ("lambda", "invoke", {"FunctionName": "f", "InvocationType": "Later"}, "ValidationException", "Later", "invocationType",
         "satisfy enum value set: [Event, RequestResponse, DryRun]"),
        ("iam", "get_policy", {"PolicyArn": "arn:" + "x" * 2048}, "ValidationError", "arn:" + "x" * 2048, "policyArn",
         "have length less than or equal to 2048"),
        ("logs", "create_log_group", {"logGroupName": "a b"}, "InvalidParameterException", "a b", "logGroupName",
         r"satisfy regular expression pattern: [\.\-_/#A-Za-z0-9]+"),
        ("ssm", "get_parameters_by_path", {"Path": "/", "MaxResults": 11}, "ValidationException", "11", "maxResults",
         "have value less than or equal to 10"),
        ("s3", "put_object", {"Bucket": "b", "Key": "k", "StorageClass": "COLD"}, "InvalidArgument", "COLD", "storageClass",
         "satisfy enum value set: [STANDARD"),
        ("ec2", "describe_instances", {"MaxResults": 5, "Filters": []}, None, "", "", ""),
    ],
)  # fmt: skip
def test_a_request_that_the_model_forbids_is_refused(local_aws, service, operation, arguments, code, value, member, rule):
    call = getattr(local_aws.client(service), operation)
    if code is None:
        assert call(**arguments)["ResponseMetadata"]["HTTPStatusCode"] == 200
        return
    found, text, status = refused(call, **arguments)
    assert (found, status) == (code, 400)
    assert text.startswith(KNOWN.format(value=value, member=member) + rule)


def test_it_is_in_the_record_of_calls(local_aws):
    refused(local_aws.client("sagemaker").describe_model, ModelName="a_b")
    newest = local_aws.client("cloudtrail").lookup_events(
        LookupAttributes=[{"AttributeKey": "EventName", "AttributeValue": "DescribeModel"}]
    )
    assert '"errorCode": "ValidationException"' in newest["Events"][0]["CloudTrailEvent"]


def test_who_may_not_ask_learns_nothing_of_the_form(local_aws):
    from people import People

    person = People(local_aws).user()
    assert refused(person.client("sagemaker").describe_endpoint, EndpointName="a_b")[0] == "AccessDeniedException"
