"""The Lambda door: events in, answers out, errors mapped, nothing given away."""

import ast
import json
import re
import sys

import pytest
from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError, ReadTimeoutError
from lambda_door import CONTEXT, JPEG, PNG, RESULT, ROOT, WEBP, Endpoint, Network, load

EVENTS = ROOT / "tests" / "events"
SECRET = "SECRET-of-the-model /opt/ml/code.py line 7 Traceback arn:aws:logs:us-east-1:123456789012:log-group:x"


def event(name: str) -> dict:
    return json.loads((EVENTS / f"{name}.json").read_text())


@pytest.fixture
def door(monkeypatch):
    module = load(monkeypatch)
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    return module


@pytest.fixture
def endpoint(door):
    return Endpoint(door)


@pytest.fixture
def network(monkeypatch):
    return Network(monkeypatch)


def assert_safe(answer: dict) -> None:
    """Nothing of context, account, ARN, stack or model log is in an error's answer."""
    text = json.dumps(answer)
    for part in (
        "arn:",
        "123456789012",
        "Traceback",
        "SECRET",
        "line ",
        ".py",
        "dogs",
        "request-of",
        "stream-of",
        "botocore",
        "ModelError",
    ):
        assert part not in text, part
    assert set(answer) == {"statusCode", "headers", "body"}
    assert re.fullmatch(r"[^\n]{10,160}\.", json.loads(answer["body"])["error"])


def test_a_url_is_fetched_and_answered_in_the_courses_form(door, endpoint, network):
    network.serves()
    endpoint.answers()
    answer = door.lambda_handler(event("url"), CONTEXT)
    assert answer == {
        "statusCode": 200,
        "headers": {"Content-Type": "application/json"},
        "type-result": "<class 'str'>",
        "COntent-Type-In": "image/jpeg",
        "predictions": RESULT["predictions"][0],
        "body": "[[0.5, 2.0, -1.0]]",
    }


@pytest.mark.parametrize("name", ["api_gateway_v1", "function_url", "function_url_base64"])
def test_events_of_http_front_doors_are_understood(door, endpoint, network, name):
    network.serves()
    endpoint.answers()
    assert door.lambda_handler(event(name), CONTEXT)["statusCode"] == 200


@pytest.mark.parametrize("image, content_type", [(JPEG, "image/jpeg"), (PNG, "image/png"), (WEBP, "image/webp")])
def test_bytes_are_sent_under_the_type_of_their_first_bytes(door, endpoint, network, image, content_type):
    network.serves(image, "binary/octet-stream")
    endpoint.answers(image=image, content_type=content_type)
    assert door.lambda_handler(event("url"), CONTEXT)["COntent-Type-In"] == content_type


def test_an_image_in_the_event_needs_no_network(door, endpoint, network):
    endpoint.answers()
    assert door.lambda_handler(event("image"), CONTEXT)["statusCode"] == 200
    assert network.connected == []


def test_the_origin_header_is_there_only_when_set(monkeypatch, network):
    door = load(monkeypatch, ALLOWED_ORIGIN="https://dogs.example.com")
    Endpoint(door).answers()
    headers = door.lambda_handler(event("image"), CONTEXT)["headers"]
    assert headers["Access-Control-Allow-Origin"] == "https://dogs.example.com"
    assert headers["Vary"] == "Origin"


BAD_EVENTS = {
    "empty": {}, "none": None, "list": [1], "text": "https://images.example.com/dog.jpg", "number": {"url": 3}, "null": {"url": None},
    "both": {"url": "https://images.example.com", "image": "AAAA"}, "spaces": {"url": "https://images.example.com/a b"},
    "long": {"url": "https://images.example.com/" + "a" * 5000}, "no scheme": {"url": "images.example.com/dog.jpg"},
    "bad port": {"url": "https://images.example.com:99999/"}, "bad bracket": {"url": "http://[::1/"},
    "newline": {"url": "https://a\r\nHost: b/"},
    "body no text": {"body": {"url": "x"}}, "body empty": {"body": None}, "body no json": {"body": "url=x"},
    "body bad base64": {"body": "%%%", "isBase64Encoded": True}, "body list": {"body": "[]"}, "body deep": {"body": "[" * 100_000},
    "image no text": {"image": 3}, "image empty": {"image": ""}, "image no base64": {"image": "%%%"}, "other key": {"uri": "x"},
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD_EVENTS.values(), ids=BAD_EVENTS)
def test_a_bad_event_gets_400_and_one_sentence(door, network, bad):
    answer = door.lambda_handler(bad, CONTEXT)
    assert answer["statusCode"] == 400
    assert_safe(answer)
    assert network.connected == []


def test_an_image_in_the_event_that_is_none_or_too_large_is_refused(door):
    assert door.lambda_handler({"image": "aGVsbG8="}, CONTEXT)["statusCode"] == 415
    assert door.lambda_handler({"image": "AAAA" * 1_700_000}, CONTEXT)["statusCode"] == 413


SERVICE = [
    ("ModelError", 424, {"OriginalStatusCode": 400}, 400),
    ("ModelError", 424, {"OriginalStatusCode": 413}, 413),
    ("ModelError", 424, {"OriginalStatusCode": 415}, 415),
    ("ModelError", 424, {"OriginalStatusCode": 422}, 422),
    ("ModelError", 424, {"OriginalStatusCode": 418}, 400),
    ("ModelError", 424, {"OriginalStatusCode": 500}, 502),
    ("ModelError", 424, {"OriginalStatusCode": 0}, 504),
    ("ModelNotReadyException", 429, {}, 503),
    ("AccessDeniedException", 403, {}, 500),
    ("ExpiredTokenException", 403, {}, 500),
    ("SomethingNew", 400, {}, 500),
]


@pytest.mark.parametrize("code, status, members, expected", SERVICE, ids=[f"{code}-{expected}" for code, _, _, expected in SERVICE])
def test_an_error_of_the_service_is_mapped_and_gives_nothing_away(door, endpoint, caplog, code, status, members, expected):
    details = {"OriginalMessage": SECRET, "LogStreamArn": SECRET} if code == "ModelError" else {}
    endpoint.fails(code, status, SECRET, **members, **details)
    answer = door.lambda_handler(event("image"), CONTEXT)
    assert answer["statusCode"] == expected
    assert_safe(answer)
    assert "SECRET-of-the-model" in caplog.text, "the operators must be able to read the cause"


@pytest.mark.parametrize(
    "code, expected",
    [("ThrottlingException", 429), ("ServiceUnavailable", 503), ("InternalFailure", 502), ("InternalDependencyException", 502)],
)
def test_a_service_in_trouble_is_asked_once_more_and_no_more(door, endpoint, code, expected):
    endpoint.fails(code, 503, SECRET)
    endpoint.answers()
    assert door.lambda_handler(event("image"), CONTEXT)["statusCode"] == 200
    for _ in range(3):
        endpoint.fails(code, 503, SECRET)
    answer = door.lambda_handler(event("image"), CONTEXT)
    assert answer["statusCode"] == expected
    assert_safe(answer)
    assert (answer["headers"].get("Retry-After") == "2") == (expected in (429, 503))
    with pytest.raises(AssertionError, match="1 responses remaining"):
        endpoint.stubber.assert_no_pending_responses()


def test_an_endpoint_that_does_not_exist_is_our_fault_and_named_in_the_log(door, endpoint, caplog):
    endpoint.fails("ValidationError", 400, "Endpoint dogs of account 123456789012 not found.")
    answer = door.lambda_handler(event("image"), CONTEXT)
    assert answer["statusCode"] == 500
    assert_safe(answer)
    assert "Endpoint dogs of account" in caplog.text


def test_a_missing_endpoint_name_is_our_fault_and_named_in_the_log(door, monkeypatch, caplog):
    monkeypatch.delenv("ENDPOINT_NAME")
    answer = door.lambda_handler(event("image"), CONTEXT)
    assert answer["statusCode"] == 500
    assert_safe(answer)
    assert "ENDPOINT_NAME is not set" in caplog.text


TIMEOUTS = [
    (ReadTimeoutError(endpoint_url="https://SECRET"), 504),
    (ConnectTimeoutError(endpoint_url="https://SECRET"), 504),
    (EndpointConnectionError(endpoint_url="https://SECRET"), 502),
]


@pytest.mark.parametrize("error, expected", TIMEOUTS, ids=[type(error).__name__ for error, _ in TIMEOUTS])
def test_a_timeout_is_not_tried_again(door, error, expected):
    tries = []

    def break_down(**request):
        tries.append(1)
        raise error

    door.sagemaker.meta.events.register("before-send.sagemaker-runtime.InvokeEndpoint", break_down)
    answer = door.lambda_handler(event("image"), CONTEXT)
    assert (answer["statusCode"], len(tries)) == (expected, 1)
    assert_safe(answer)


@pytest.mark.parametrize("text", ["SECRET", "{}", "[[1, 2]]", '{"logits": [[1]], "predictions": []}', '{"logits": 3, "predictions": [[]]}'])
def test_an_answer_that_is_no_prediction_is_a_502(door, endpoint, text):
    endpoint.answers(text)
    answer = door.lambda_handler(event("image"), CONTEXT)
    assert answer["statusCode"] == 502
    assert_safe(answer)


def test_what_nobody_foresaw_is_a_500_without_a_stack(door, monkeypatch, caplog):
    monkeypatch.setattr(door, "ask", lambda *arguments: 1 / 0)
    answer = door.lambda_handler(event("image"), CONTEXT)
    assert answer["statusCode"] == 500
    assert_safe(answer)
    assert "ZeroDivisionError" in caplog.text


def test_the_endpoint_has_less_time_than_the_function(monkeypatch):
    for timeout in (6, 30, 60):
        config = load(monkeypatch, FUNCTION_TIMEOUT=str(timeout)).sagemaker.meta.config
        assert config.connect_timeout == 2
        assert 1 <= config.read_timeout < timeout - 2


def test_the_file_needs_only_the_standard_library_and_boto3():
    tree = ast.parse((ROOT / "lambda_function.py").read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} <= {"boto3", "botocore", *sys.stdlib_module_names}
