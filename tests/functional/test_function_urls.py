"""Function URLs: what a stranger, a signed caller and a former public URL get."""

import base64
import json

import boto3
import pytest
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from people import People
from people import allow as allowing
from test_functions import Functions

SOURCE = """
import base64

def handler(event, context):
    if event["rawPath"] == "/picture":
        return {"statusCode": 201, "headers": {"Content-Type": "image/png"}, "body": base64.b64encode(b"\\x89PNG\\xff").decode(),
                "isBase64Encoded": True, "cookies": ["a=1", "b=2"]}
    if event["rawPath"] == "/raise":
        raise ValueError("secret")
    return event
"""


@pytest.fixture(scope="module")
def functions(served):
    made = Functions(served)
    made.create("open", SOURCE)
    yield made
    made.client.delete_function(FunctionName="open")


@pytest.fixture
def url(functions):
    """A URL of type NONE that everybody may call."""
    made = functions.client.create_function_url_config(FunctionName="open", AuthType="NONE")
    allow(functions)
    yield made["FunctionUrl"]
    close(functions)


def allow(functions) -> None:
    """What AWS's console adds to the function's policy."""
    public = {"FunctionName": "open", "Principal": "*"}
    functions.client.add_permission(**public, StatementId="url", Action="lambda:InvokeFunctionUrl", FunctionUrlAuthType="NONE")
    functions.client.add_permission(**public, StatementId="invoke", Action="lambda:InvokeFunction", InvokedViaFunctionUrl=True)


def close(functions) -> None:
    for statement in json.loads(functions.client.get_policy(FunctionName="open")["Policy"])["Statement"]:
        functions.client.remove_permission(FunctionName="open", StatementId=statement["Sid"])
    functions.client.delete_function_url_config(FunctionName="open")


def test_a_public_url_is_called_with_format_2_0(url):
    event = requests.post(f"{url}dogs/1?a=1&a=2&b=", json={"breed": "Akita"}, cookies={"k": "v"}, timeout=20).json()
    assert (event["version"], event["rawPath"], event["rawQueryString"]) == ("2.0", "/dogs/1", "a=1&a=2&b=")
    assert event["queryStringParameters"] == {"a": "1,2", "b": ""}
    assert (event["requestContext"]["http"]["method"], event["cookies"]) == ("POST", ["k=v"])
    assert (json.loads(event["body"]), event["isBase64Encoded"]) == ({"breed": "Akita"}, False)


def test_binary_travels_in_base64_both_ways(url):
    event = requests.post(url, data=b"\xff\xd8", headers={"Content-Type": "image/jpeg"}, timeout=20).json()
    assert (base64.b64decode(event["body"]), event["isBase64Encoded"]) == (b"\xff\xd8", True)
    answer = requests.get(f"{url}picture", timeout=20)
    assert (answer.status_code, answer.content, answer.headers["Content-Type"]) == (201, b"\x89PNG\xff", "image/png")
    assert answer.cookies.get_dict() == {"a": "1", "b": "2"}


def test_an_error_tells_a_stranger_nothing(url):
    answer = requests.get(f"{url}raise", timeout=20)
    assert (answer.status_code, answer.text) == (502, "Internal Server Error")


def test_a_public_url_opens_nothing_else(functions, url):
    root = functions.aws.local.endpoint_url
    identity = url.split("/lambda-url/")[1]
    closed = ["/", "/lambda-url/", "/lambda-url/" + "0" * 32 + "/", f"/lambda-url/{identity}../", "/moto-api/"]
    closed += ["/2015-03-31/functions", f"/{functions.aws.bucket}"]
    for path in closed:
        assert requests.get(root + path, timeout=20).status_code == 403, path
    moved = requests.get(f"{url}../../2015-03-31/functions", timeout=20)
    assert moved.status_code == 403
    rebound = requests.get(url, headers={"Host": "evil.example:80"}, timeout=20)
    assert rebound.status_code == 403


def test_it_closes_with_its_permission_and_with_its_configuration(functions, url):
    functions.client.remove_permission(FunctionName="open", StatementId="invoke")
    answer = requests.get(url, timeout=20)
    assert (answer.status_code, answer.json()) == (403, {"Message": "Forbidden"})
    functions.client.remove_permission(FunctionName="open", StatementId="url")
    allow(functions)
    assert requests.get(url, timeout=20).status_code == 200
    functions.client.update_function_url_config(FunctionName="open", AuthType="AWS_IAM")
    assert requests.get(url, timeout=20).status_code == 403


def test_a_body_over_the_limit_is_refused(url):
    assert requests.post(url, data=b"x" * 6_291_457, timeout=20).status_code == 413


def test_the_url_of_an_alias_goes_with_it(functions):
    functions.client.publish_version(FunctionName="open")
    functions.client.create_alias(FunctionName="open", Name="live", FunctionVersion="1")
    made = functions.client.create_function_url_config(FunctionName="open", Qualifier="live", AuthType="AWS_IAM")
    assert signed(functions, made["FunctionUrl"], functions.aws.local.secret_access_key).status_code == 200
    functions.client.delete_alias(FunctionName="open", Name="live")
    assert functions.client.list_function_url_configs(FunctionName="open")["FunctionUrlConfigs"] == []
    said = functions.refused("create_function_url_config", FunctionName="open", Qualifier="1", AuthType="NONE")
    assert said["Error"]["Code"] == "ValidationException"  # the API model knows that a URL is for no version


def signed(functions, url: str, secret: str, key: str = "") -> requests.Response:
    keys = boto3.Session(key or functions.aws.local.access_key_id, secret).get_credentials()
    request = AWSRequest("POST", url, data=b"{}", headers={"Content-Type": "application/json"})
    SigV4Auth(keys, "lambda", functions.aws.local.region).add_auth(request)
    return requests.post(url, data=b"{}", headers=dict(request.headers), timeout=20)


def test_an_iam_url_wants_a_valid_signature(functions):
    made = functions.client.create_function_url_config(FunctionName="open", AuthType="AWS_IAM")
    url = made["FunctionUrl"]
    assert functions.client.get_function_url_config(FunctionName="open")["FunctionUrl"] == url
    assert len(functions.client.list_function_url_configs(FunctionName="open")["FunctionUrlConfigs"]) == 1
    assert requests.post(url, data=b"{}", timeout=20).status_code == 403
    assert signed(functions, url, "x" * 40).status_code == 403
    assert signed(functions, url, functions.aws.local.secret_access_key).json()["body"] == "{}"
    functions.client.delete_function_url_config(FunctionName="open")
    assert signed(functions, url, functions.aws.local.secret_access_key).status_code == 403


def test_an_iam_url_asks_for_the_callers_own_permissions(functions):
    people, arn = People(functions.aws.local), functions.client.get_function(FunctionName="open")["Configuration"]["FunctionArn"]
    half = people.user(allowing("lambda:InvokeFunctionUrl", arn))
    whole = people.user(allowing(["lambda:InvokeFunctionUrl", "lambda:InvokeFunction"], arn))
    url = functions.client.create_function_url_config(FunctionName="open", AuthType="AWS_IAM")["FunctionUrl"]
    answers = [signed(functions, url, person.keys[1], person.keys[0]).status_code for person in (half, whole)]
    functions.client.delete_function_url_config(FunctionName="open")
    assert answers == [403, 200]
