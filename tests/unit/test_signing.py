"""The gate, without a socket: requests signed by botocore as clients sign them, and what is wrong with the others."""

import io
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote, urlsplit

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders
from botocore.credentials import Credentials
from botocore.parsers import create_parser

from opml.localaws.signing import Gate

HOST = "127.0.0.1:5000"
KEY, SECRET, TOKEN = "AKIAOWNER", "secret", "token-of-the-session"


@dataclass
class Key:
    secret: str
    token: str | None = None
    expires: datetime | None = None


KEYS = {KEY: Key(SECRET), "ASIAROLE": Key(SECRET, TOKEN), "ASIAOLD": Key(SECRET, TOKEN, datetime(2020, 1, 1))}


class App:
    """Stands for moto: remembers what came through."""

    def __init__(self):
        self.bodies = []

    def __call__(self, environ, start_response):
        self.bodies.append(environ["wsgi.input"].read())
        start_response("200 OK", [])
        return [b"done"]


@pytest.fixture
def app():
    return App()


def environ_of(request):
    """The WSGI environment that werkzeug makes of a signed request."""
    prepared = request.prepare()
    url, body = urlsplit(prepared.url), prepared.body or b""
    body = body.encode() if isinstance(body, str) else body
    raw = url.path + (f"?{url.query}" if url.query else "")
    environ = {"REQUEST_METHOD": prepared.method, "RAW_URI": raw, "PATH_INFO": unquote(url.path), "QUERY_STRING": url.query}
    environ |= {"HTTP_HOST": url.netloc, "CONTENT_LENGTH": str(len(body)), "wsgi.input": io.BytesIO(body)}
    for name, value in prepared.headers.items():
        key = name.upper().replace("-", "_")
        environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = value if isinstance(value, str) else value.decode()
    return environ


def signed(
    method="POST", path="/", service="sagemaker", data=b"{}", key=KEY, secret=SECRET, token=None, headers=None, auth=None, host=HOST
):
    """The environment of a request that was signed with these credentials."""
    request = AWSRequest(
        method=method, url=f"http://{host}{path}", data=data, headers=headers or {"Content-Type": "application/x-amz-json-1.1"}
    )
    signer = auth or (S3SigV4Auth if service == "s3" else SigV4Auth)
    signer(Credentials(key, secret, token), service, "us-east-1").add_auth(request)
    return environ_of(request)


def call(app, environ, clock=None):
    """(status, headers, body) of the gate's answer."""
    answer = {}
    gate = Gate(app, KEYS.get, 5000, **({"clock": clock} if clock else {}))
    body = b"".join(gate(environ, lambda status, headers: answer.update(status=status, headers=dict(headers))))
    return int(answer["status"][:3]), answer["headers"], body.decode("latin-1")


def in_seconds(seconds):
    return lambda: (datetime.now(UTC) + timedelta(seconds=seconds)).timestamp()


@pytest.mark.parametrize(
    "request_",
    [
        {"service": "sagemaker", "data": b'{"TrainingJobName": "x"}'},
        {"service": "sts", "data": b"Action=GetCallerIdentity", "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
        {"service": "lambda", "method": "GET", "path": "/2015-03-31/functions/arn%3Aaws%3Alambda/tags?b=2&a=1%2F&a=0", "data": b""},
        {"service": "s3", "method": "PUT", "path": "/bucket/a%20folder/%C3%A9t%C3%A9%2B.jpg", "data": b"\xff\xd8bytes"},
        {"service": "s3", "method": "GET", "path": "/bucket/a//b/../c?list-type=2&prefix=x%2Fy", "data": b""},
        {"service": "sagemaker", "key": "ASIAROLE", "token": TOKEN},
    ],
    ids=["json", "query", "encoded path", "s3 put", "s3 path is not normalised", "role session"],
)
def test_what_a_known_key_signed_passes_with_its_body(app, request_):
    status, _, body = call(app, signed(**request_))
    assert (status, body) == (200, "done")
    assert app.bodies == [request_.get("data", b"{}")]


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"key": "AKIANOBODY"}, "UnrecognizedClientException"),
        ({"secret": "guessed"}, "InvalidSignatureException"),
        ({"key": "ASIAROLE"}, "UnrecognizedClientException"),
        ({"key": "ASIAROLE", "token": "stolen"}, "UnrecognizedClientException"),
        ({"key": KEY, "token": TOKEN}, "UnrecognizedClientException"),
        ({"key": "ASIAOLD", "token": TOKEN}, "ExpiredTokenException"),
        ({"path": "/moto-api/reset"}, "AccessDeniedException"),
        ({"path": "/latest/meta-data/iam/"}, "AccessDeniedException"),
    ],
    ids=["unknown key", "wrong secret", "no token", "wrong token", "token of another", "expired token", "moto's switches", "metadata"],
)
def test_what_is_signed_wrongly_gets_403_and_does_not_pass(app, request_, code):
    status, headers, body = call(app, signed(**request_))
    assert (status, headers["x-amzn-ErrorType"], json.loads(body)["__type"]) == (403, code, code)
    assert app.bodies == []


@pytest.mark.parametrize(
    ("content_type", "code"),
    [
        ("application/x-amz-json-1.1", '"__type": "MissingAuthenticationTokenException"'),
        ("application/x-www-form-urlencoded", "<Code>MissingAuthenticationToken</Code>"),
        ("", "<Code>AccessDenied</Code>"),
    ],
)
def test_an_unsigned_request_is_refused_in_the_format_of_its_service(app, content_type, code):
    environ = {**signed(), "CONTENT_TYPE": content_type}
    del environ["HTTP_AUTHORIZATION"]
    status, _, body = call(app, environ)
    assert status == 403 and code in body and app.bodies == []


def test_a_cors_preflight_is_refused(app):
    environ = {"REQUEST_METHOD": "OPTIONS", "RAW_URI": "/", "PATH_INFO": "/", "HTTP_HOST": HOST, "HTTP_ORIGIN": "http://evil.example"}
    status, headers, _ = call(app, {**environ, "wsgi.input": io.BytesIO()})
    assert status == 403 and not [name for name in headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize("part", ["RAW_URI", "QUERY_STRING", "REQUEST_METHOD", "HTTP_X_AMZ_DATE", "body"])
def test_a_request_changed_after_signing_is_refused(app, part):
    environ = signed()
    changes = {"RAW_URI": "/other", "REQUEST_METHOD": "PUT", "HTTP_X_AMZ_DATE": datetime.now(UTC).strftime("%Y%m%dT%H%M59Z")}
    if part == "QUERY_STRING":
        environ["RAW_URI"] += "?x=1"
    elif part == "body":
        environ["wsgi.input"] = io.BytesIO(b"[]")
    else:
        environ[part] = changes[part]
    assert call(app, environ)[0] == 403 and app.bodies == []


@pytest.mark.parametrize("offset", [-901, 901])
def test_a_clock_more_than_15_minutes_off_is_refused(app, offset):
    assert call(app, signed(), clock=in_seconds(offset))[0] == 403
    assert call(app, signed(), clock=in_seconds(offset * 0.9))[0] == 200


@pytest.mark.parametrize("host", ["evil.example:5000", "127.0.0.1:80", "127.0.0.1.evil.example:5000", "localhost"])
def test_another_host_name_is_refused_even_when_signed(app, host):
    assert call(app, signed(host=host))[0] == 403 and app.bodies == []


@pytest.mark.parametrize("host", ["localhost:5000", "bucket.localhost:5000"])
def test_the_names_of_this_machine_are_answered(app, host):
    assert call(app, signed(host=host))[0] == 200


def presigned(path="/bucket/cat.jpg", expires=60, **credentials):
    request = AWSRequest(method="GET", url=f"http://{HOST}{path}")
    given = {"access_key": KEY, "secret_key": SECRET, **credentials}
    S3SigV4QueryAuth(Credentials(**given), "s3", "us-east-1", expires=expires).add_auth(request)
    return environ_of(request)


def test_a_presigned_url_passes_until_it_expires(app):
    assert call(app, presigned())[0] == 200
    assert call(app, presigned(access_key="ASIAROLE", token=TOKEN))[0] == 200
    status, _, body = call(app, presigned(), clock=in_seconds(61))
    assert status == 403 and "Request has expired" in body


def test_a_presigned_url_is_good_for_its_own_path_only(app):
    environ = presigned()
    environ["RAW_URI"] = environ["RAW_URI"].replace("cat", "dog")
    status, _, body = call(app, environ)
    assert status == 403 and "SignatureDoesNotMatch" in body


def test_a_presigned_url_cannot_live_longer_than_a_week(app):
    assert call(app, presigned(expires=7 * 24 * 3600 + 1))[0] == 403


class Unhashed(S3SigV4Auth):
    def payload(self, _request):
        return "UNSIGNED-PAYLOAD"


def test_s3_may_leave_its_body_unhashed_and_others_may_not(app):
    assert call(app, signed(service="s3", method="PUT", path="/b/k", auth=Unhashed))[0] == 200
    assert call(app, signed(service="sagemaker", auth=Unhashed))[0] == 403


def test_an_s3_body_must_have_the_hash_that_was_signed(app):
    environ = signed(service="s3", method="PUT", path="/b/k", data=b"good")
    environ["wsgi.input"] = io.BytesIO(b"evil")
    status, _, body = call(app, environ)
    assert status == 403 and "XAmzContentSHA256Mismatch" in body


def test_a_refused_request_does_not_count_as_use(app):
    gate = Gate(app, KEYS.get, 5000)
    before = gate.last_request
    list(gate(signed(secret="guessed"), lambda *_: None))
    assert gate.last_request == before
    list(gate(signed(), lambda *_: None))
    assert gate.last_request > before


def test_a_public_path_needs_no_signature_but_the_right_host_and_all_others_do(app):
    gate = Gate(app, KEYS.get, 5000, is_public=lambda path: path == "/lambda-url/open/")
    environ = {key: value for key, value in signed().items() if key != "HTTP_AUTHORIZATION"}

    def status(path: str, host: str = environ["HTTP_HOST"]) -> str:
        seen = []
        list(gate({**environ, "PATH_INFO": path, "HTTP_HOST": host}, lambda code, _headers: seen.append(code)))
        return seen[0][:3]

    assert status("/lambda-url/open/") == "200"
    assert {status(path) for path in ("/", "/lambda-url/open", "/lambda-url/open/x", "/Lambda-Url/open/")} == {"403"}
    assert status("/lambda-url/open/", "evil.example:5000") == "403"


def test_a_garbled_authorization_is_refused(app):
    for garbled in ("Basic abc", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=x"):
        assert call(app, {**signed(), "HTTP_AUTHORIZATION": garbled})[0] == 403
    assert app.bodies == []


def test_cloudwatch_gets_its_refusal_in_cbor(app):
    status, headers, body = call(app, signed(service="monitoring", secret="guessed", headers={"Content-Type": "application/cbor"}))
    answer = {"status_code": status, "headers": HTTPHeaders.from_dict(headers), "body": body.encode("latin-1"), "context": {}}
    parsed = create_parser("smithy-rpc-v2-cbor").parse({**answer}, None)
    assert parsed["Error"]["Code"] == "InvalidSignatureException"
