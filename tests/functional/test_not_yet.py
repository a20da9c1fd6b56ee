"""docs/local-aws.md, asked of the running server: what is said to answer 501 does."""

import re
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.loaders import Loader
from botocore.model import ServiceModel

PAGE = (Path(__file__).parents[2] / "docs" / "local-aws.md").read_text()
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and "501" in line]
SERVICES = ("sagemaker", "sagemaker-runtime", "lambda", "application-autoscaling", "iam", "cloudtrail")
VALUES = {"string": "arn:aws:iam::123456789012:role/x", "integer": 1, "boolean": True, "blob": b"{}"}
REAL = {"Invoke", "AssumeRole"}  # named in such a row, and there


def model(service: str) -> ServiceModel:
    """AWS's description of a service, whatever the environment says."""
    return ServiceModel(Loader().load_service_model(service, "service-2"))


def missing() -> list[tuple[str, str]]:
    """(service, operation) of all that the page says to answer 501."""
    named = set(re.findall(r"`([A-Z]\w+)`", "\n".join(ROWS))) - REAL
    return sorted((service, name) for service in SERVICES for name in model(service).operation_names if name in named)


def filled(shape) -> object:
    """The smallest value of a shape that passes botocore's own validation, but for lengths and patterns."""
    if shape.type_name == "structure":
        return {name: filled(shape.members[name]) for name in shape.required_members}
    if shape.type_name == "list":
        return [filled(shape.member)]
    if getattr(shape, "enum", None):
        return shape.enum[0]
    return VALUES[shape.type_name]


@pytest.mark.parametrize(("service", "operation"), missing(), ids=lambda name: name)
def test_what_is_not_there_yet_answers_501(served, service, operation):
    client = served.client(service, parameter_validation=False)
    arguments = filled(client.meta.service_model.operation_model(operation).input_shape)
    arguments |= {name: "x" for name in ("FunctionName", "EndpointName") if name in arguments}
    with pytest.raises(ClientError) as caught:
        client._make_api_call(operation, arguments)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501
    assert caught.value.response["Error"]["Code"] in ("NotImplemented", "NotImplementedException")


@pytest.mark.parametrize(
    ("service", "operation", "arguments", "code"),
    [
        ("accessanalyzer", "list_analyzers", {}, "NotImplementedException"),  # moto has no such service: JSON by path,
        ("gamelift", "list_builds", {}, "NotImplementedException"),  # JSON,
        ("cloudsearch", "describe_domains", {}, "NotImplemented"),  # a form, answered in XML
        ("lambda", "list_code_signing_configs", {}, "NotImplementedException"),  # moto has the service, but no such path
        ("elasticache", "describe_events", {}, "NotImplementedException"),  # the path, but no such method
    ],
)
def test_what_moto_does_not_know_answers_501_at_once_and_is_not_repeated(local_aws, service, operation, arguments, code):
    keys = {"aws_access_key_id": local_aws.access_key_id, "aws_secret_access_key": local_aws.secret_access_key}
    client = boto3.Session(region_name="us-east-1", **keys).client(service, endpoint_url=local_aws.endpoint_url)
    with pytest.raises(ClientError, match="local AWS does not have") as caught:
        getattr(client, operation)(**arguments)
    said = caught.value.response
    assert (said["Error"]["Code"], said["ResponseMetadata"]["HTTPStatusCode"]) == (code, 501)
    assert said["ResponseMetadata"]["RetryAttempts"] == 0
