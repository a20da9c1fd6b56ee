import io
import json
import zipfile

import boto3
import pytest
from botocore.validate import ParamValidator

from opml import functions
from opml.errors import BadInput, NotFound, OpmlError


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A repository with a function in it."""
    (tmp_path / "lambda_function.py").write_text("def lambda_handler(event, context):\n    return event\n")
    monkeypatch.setattr(functions, "REPOSITORY", tmp_path)
    return tmp_path / "lambda_function.py"


def test_the_package_holds_the_function_and_is_the_same_each_time(source):
    first = functions.package()
    source.touch()
    assert functions.package() == first
    with zipfile.ZipFile(io.BytesIO(first)) as archive:
        assert archive.namelist() == ["lambda_function.py"]
        assert archive.read("lambda_function.py") == source.read_bytes()
        assert archive.infolist()[0].external_attr >> 16 & 0o004  # Lambda's user can read it


def test_a_function_that_is_not_there_is_refused(source):
    with pytest.raises(BadInput, match=r"nothing\.py"):
        functions.package("nothing.py")


def test_the_request_fits_the_api_and_names_the_endpoint(aws, source):
    request = functions.create_request(aws, "opml-t-f", "arn:aws:iam::123456789012:role/r", "dogs")
    shape = boto3.client("lambda").meta.service_model.operation_model("CreateFunction").input_shape
    assert not ParamValidator().validate(request, shape).has_errors()
    assert request["Environment"] == {"Variables": {"ENDPOINT_NAME": "dogs", "FUNCTION_TIMEOUT": "30"}}
    assert request["Tags"]["opml:run_id"] == "t" and request["Publish"] is False


@pytest.mark.parametrize("limits", [{"memory_mb": 64}, {"memory_mb": 20000}, {"timeout_s": 0}, {"timeout_s": 901}])
def test_memory_and_time_outside_the_limits_are_refused(aws, source, limits):
    with pytest.raises(BadInput, match=next(iter(limits))):
        functions.create_request(aws, "f", "arn:aws:iam::123456789012:role/r", "dogs", **limits)


def response(payload, **more):
    return {"StatusCode": 200, "Payload": io.BytesIO(json.dumps(payload).encode()), **more}


def test_the_answer_is_what_the_handler_returned():
    assert functions.answer(response({"statusCode": 200, "body": "[[1.0]]"})) == {"statusCode": 200, "body": "[[1.0]]"}


def test_a_function_that_failed_raises_with_its_message():
    failed = response({"errorType": "KeyError", "errorMessage": "'url'"}, FunctionError="Unhandled")
    with pytest.raises(OpmlError, match="KeyError.*'url'"):
        functions.answer(failed)


def test_the_role_may_only_call_its_endpoint_and_its_log_group_forgets(aws):
    arn = functions.ensure_role(aws, "dogs", "opml-t-function")
    name = arn.rpartition("/")[2]
    statements = aws.client("iam").get_role_policy(RoleName=name, PolicyName="opml")["PolicyDocument"]["Statement"]
    (group,) = aws.client("logs").describe_log_groups(logGroupNamePrefix="/aws/lambda/opml-t-function")["logGroups"]
    assert [s["Resource"] for s in statements if "sagemaker:InvokeEndpoint" in s["Action"]] == [
        ["arn:aws:sagemaker:us-east-1:123456789012:endpoint/dogs"]
    ]
    assert group["retentionInDays"] == functions.LOG_DAYS
    assert aws.client("lambda").list_functions()["Functions"] == []  # the probe is gone


def test_a_role_that_lambda_does_not_know_yet_is_waited_for(aws, monkeypatch):
    client, create, tries = aws.client("lambda"), aws.client("lambda").create_function, []

    def slow(**request):
        tries.append(request["FunctionName"])
        if len(tries) < 3:
            said = {"Error": {"Code": "InvalidParameterValueException", "Message": "The role cannot be assumed by Lambda."}}
            raise client.exceptions.InvalidParameterValueException(said, "CreateFunction")
        return create(**request)

    monkeypatch.setattr(client, "create_function", slow)
    monkeypatch.setattr(functions.time, "sleep", lambda seconds: None)
    functions.ensure_role(aws, "dogs", "opml-t-function")
    assert tries == ["opml-t-function-probe"] * 3


def test_ensuring_the_function_twice_makes_one(aws, source):
    assert functions.ensure_function(aws, "dogs") == functions.ensure_function(aws, "dogs") == "opml-t-function"
    assert len(aws.client("lambda").list_functions()["Functions"]) == 1


def test_a_function_of_another_endpoint_is_turned_to_this_one(aws, source):
    functions.ensure_function(aws, "cats")
    name = functions.ensure_function(aws, "dogs")
    found = aws.client("lambda").get_function_configuration(FunctionName=name)
    assert found["Environment"]["Variables"]["ENDPOINT_NAME"] == "dogs"


@pytest.mark.parametrize("given", ["opml/t/dog.jpg", "s3://opml-local/opml/t/dog.jpg"])
def test_a_link_names_the_object_and_expires(aws, given):
    aws.client("s3").put_object(Bucket=aws.bucket, Key="opml/t/dog.jpg", Body=b"dog")
    url = functions.presigned_url(aws, given, seconds=60)
    assert "dog.jpg?" in url and "Expires" in url


def test_a_link_to_nothing_is_refused(aws):
    with pytest.raises(NotFound, match="cat.jpg"):
        functions.presigned_url(aws, "cat.jpg")
