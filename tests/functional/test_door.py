"""The Lambda door on the local AWS: a presigned URL in, an endpoint asked with the function's role, an answer out."""

import io
import json
import zipfile
from pathlib import Path

import pytest
from test_endpoints import Hosting, archive

DOOR = Path(__file__).resolve().parents[2] / "lambda_function.py"
PNG = b"\x89PNG\r\n\x1a\n a picture"
HANDLERS = """
import json

class Refused(Exception):
    def __init__(self, status_code, message):
        self.status_code, self.message = status_code, message

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    if b"damaged" in data:
        raise Refused(422, "SECRET")
    if b"crash" in data:
        raise RuntimeError("SECRET")
    best = {"breed": content_type, "probability": 0.9}
    return json.dumps({"logits": [[float(len(data)), 1.0]], "predictions": [[best] * 5]}), accept
"""


@pytest.fixture(scope="module")
def door(served):
    """The function ``door`` in front of the endpoint ``behind``."""
    hosting = Hosting(served)
    hosting.endpoint("behind", archive(code__inference_py=HANDLERS))
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w") as zipped:
        zipped.write(DOOR, "lambda_function.py")
    client = served.client("lambda")
    client.create_function(
        FunctionName="door", Role=served.function_role_arn, Code={"ZipFile": package.getvalue()}, Handler="lambda_function.lambda_handler",
        Runtime="python3.12", Timeout=30, MemorySize=512, Environment={"Variables": {"ENDPOINT_NAME": "behind", "FUNCTION_TIMEOUT": "30"}},
    )  # fmt: skip
    yield client
    client.delete_function(FunctionName="door")
    hosting.sagemaker.delete_endpoint(EndpointName="behind")


def call(door, event: dict) -> dict:
    answer = door.invoke(FunctionName="door", Payload=json.dumps(event))
    assert "FunctionError" not in answer
    return json.loads(answer["Payload"].read())


def presigned(served, body: bytes) -> str:
    s3 = served.client("s3")
    s3.put_object(Bucket=served.bucket, Key="door/picture", Body=body)
    return s3.generate_presigned_url("get_object", Params={"Bucket": served.bucket, "Key": "door/picture"}, ExpiresIn=60)


def test_a_presigned_url_is_classified(served, door):
    answer = call(door, {"url": presigned(served, PNG)})
    assert (answer["statusCode"], answer["COntent-Type-In"], answer["type-result"]) == (200, "image/png", "<class 'str'>")
    assert json.loads(answer["body"]) == [[float(len(PNG)), 1.0]]
    assert [one["breed"] for one in answer["predictions"]] == ["image/png"] * 5


def test_a_url_without_its_signature_is_not_fetched(served, door):
    answer = call(door, {"url": presigned(served, PNG).split("?")[0]})
    assert (answer["statusCode"], json.loads(answer["body"])["error"]) == (400, "The image could not be fetched from this URL.")


@pytest.mark.parametrize("body, status", [(PNG + b"damaged", 422), (PNG + b"crash", 502), (b"no picture", 415)])
def test_errors_behind_the_door_stay_there(served, door, body, status):
    answer = call(door, {"url": presigned(served, body)})
    assert answer["statusCode"] == status
    assert "SECRET" not in json.dumps(answer) and "arn:" not in json.dumps(answer)


def test_an_endpoint_that_is_gone_is_a_500_with_its_name_in_the_log(served, door):
    door.update_function_configuration(FunctionName="door", Environment={"Variables": {"ENDPOINT_NAME": "elsewhere"}})
    answer = call(door, {"url": presigned(served, PNG)})
    events = served.client("logs").filter_log_events(logGroupName="/aws/lambda/door")["events"]
    door.update_function_configuration(FunctionName="door", Environment={"Variables": {"ENDPOINT_NAME": "behind"}})
    assert answer["statusCode"] == 500 and "elsewhere" not in json.dumps(answer)
    assert any("Endpoint elsewhere of account" in event["message"] for event in events)
