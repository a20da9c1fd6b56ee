"""Function URLs: Lambda functions called by plain HTTP at ``/lambda-url/<id>/...`` of the local AWS.

AWS gives each URL a host of its own; here it is a path. A URL of AuthType NONE is the only way in without a signature, and only while its
configuration and the public permission exist (`is_public`, which the gate asks). Event and answer have payload format 2.0:
https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html
"""

import base64
import binascii
import json
import re
import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from urllib.parse import parse_qsl

from opml.localaws import functions, iam_gate, state
from opml.localaws.settings import settings

PREFIX = "/lambda-url/"
LARGEST_BODY = 6_291_456  # bytes
PATH = re.compile(r"/lambda-url/([0-9a-z]{32})(/.*)?")
TEXT = re.compile(r"text/|application/(json|xml|javascript|[\w.-]+\+json|[\w.-]+\+xml)\b")
URL_ACTION, INVOKE_ACTION = "lambda:InvokeFunctionUrl", "lambda:InvokeFunction"


@dataclass
class FunctionUrl:
    """One URL of a function or of one of its aliases."""

    backend: object
    name: str
    qualifier: str | None
    auth: str
    cors: dict = field(default_factory=dict)
    id: str = field(default_factory=lambda: secrets.token_hex(16))
    created: str = field(default_factory=lambda: stamp())
    modified: str = field(default_factory=lambda: stamp())

    @property
    def url(self) -> str:
        """Where it is reached."""
        return f"{settings.endpoint_url}{PREFIX}{self.id}/"

    @property
    def public(self) -> bool:
        """AuthType NONE, and everybody may both call the URL and invoke through it (AWS wants the two since October 2025)."""
        if self.auth != "NONE":
            return False
        statements = self.backend.get_function(self.name, self.qualifier).policy.statements
        return any(_opens(one, URL_ACTION) for one in statements) and any(_opens(one, INVOKE_ACTION) for one in statements)


_urls: dict[str, FunctionUrl] = {}  # by id


def stamp() -> str:
    """The present time as these operations show it."""
    return state.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _opens(statement: dict, action: str) -> bool:
    """Whether a statement of the resource policy lets everybody do this through a URL of type NONE."""
    condition = statement.get("Condition") or {}
    kind = condition.get("StringEquals", {}).get("lambda:FunctionUrlAuthType", "NONE")
    known = {"StringEquals": {"lambda:FunctionUrlAuthType"}, "Bool": {"lambda:InvokedViaFunctionUrl"}}
    understood = all(set(keys) <= known.get(operator, set()) for operator, keys in condition.items())
    everybody = statement.get("Principal") in ("*", {"AWS": "*"})
    return statement.get("Effect") == "Allow" and statement.get("Action") == action and everybody and kind == "NONE" and understood


def add(url: FunctionUrl) -> FunctionUrl:
    """Open it."""
    _urls[url.id] = url
    return url


def find(name: str, qualifier: str | None) -> FunctionUrl | None:
    """The URL of a function, or of one of its aliases."""
    return next((url for url in of_function(name) if url.qualifier == qualifier), None)


def of_function(name: str) -> list[FunctionUrl]:
    """All URLs of a function."""
    return [url for url in list(_urls.values()) if url.name == name]


def remove(url: FunctionUrl) -> None:
    """Close it."""
    _urls.pop(url.id, None)


def is_public(path: str) -> bool:
    """Whether a request to this path may pass the gate without a signature."""
    found = PATH.fullmatch(path)
    url = _urls.get(found[1]) if found else None
    return url is not None and url.public


class FunctionUrls:
    """WSGI middleware behind the gate: it answers every path below `PREFIX` itself, and hands on all others."""

    def __init__(self, app):
        self.app = app

    def __call__(self, environ, start_response):
        path = environ.get("PATH_INFO", "")
        if not path.startswith(PREFIX):
            return self.app(environ, start_response)
        found = PATH.fullmatch(path)
        url = _urls.get(found[1]) if found else None
        if url is None or not _may_call(url, environ):
            return _send(start_response, environ, *_message(403, "Forbidden"))
        return _send(start_response, environ, *_call(url, environ, found[2] or "/"))


def _may_call(url: FunctionUrl, environ: dict) -> bool:
    """NONE asks for the public permission, AWS_IAM for the caller's own (both actions, since October 2025)."""
    if url.auth == "NONE":
        return url.public
    arn = url.backend.get_function(url.name, url.qualifier).function_arn
    via = {"lambda:functionurlauthtype": "AWS_IAM", "lambda:invokedviafunctionurl": "true"}
    return iam_gate.may(environ["opml.access_key_id"], (URL_ACTION, INVOKE_ACTION), arn, via)


def _call(url: FunctionUrl, environ: dict, path: str) -> tuple[int, list[tuple[str, str]], bytes]:
    """(status, headers, body) of the function's answer."""
    length = environ.get("CONTENT_LENGTH") or "0"
    if not length.isdigit():
        return _message(400, "Bad Request")
    chunked = environ.get("wsgi.input_terminated")
    body = environ["wsgi.input"].read(LARGEST_BODY + 1 if chunked else min(int(length), LARGEST_BODY + 1))
    if len(body) > LARGEST_BODY:
        return _message(413, "Request Too Long")
    try:
        fn = functions.resolve(url.backend, url.name, url.qualifier)
        outcome = functions.pools.invoke(url.backend, fn, json.dumps(event(url, environ, path, body)))
    except functions.Throttled:
        return _message(429, "Too Many Requests")
    return (502, [("Content-Type", "application/json")], b"Internal Server Error") if outcome.failed else answer(outcome.payload)


def event(url: FunctionUrl, environ: dict, path: str, body: bytes) -> dict:
    """The event that the function gets: format 2.0, with a body that is no text in base64."""
    headers = {key[5:].replace("_", "-").lower(): value for key, value in environ.items() if key.startswith("HTTP_")}
    headers |= {
        name: environ[key] for name, key in (("content-type", "CONTENT_TYPE"), ("content-length", "CONTENT_LENGTH")) if environ.get(key)
    }
    cookies = [one.strip() for one in headers.pop("cookie", "").split(";") if one.strip()]
    query: dict[str, str] = {}
    for name, value in parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True):
        query[name] = f"{query[name]},{value}" if name in query else value
    made = {
        "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": environ.get("QUERY_STRING", ""),
        **({"cookies": cookies} if cookies else {}), "headers": headers, **({"queryStringParameters": query} if query else {}),
        "requestContext": _context(url, environ, path, headers), "isBase64Encoded": False,
    }  # fmt: skip
    if body:
        made["body"], made["isBase64Encoded"] = _encoded(body, headers.get("content-type", ""))
    return made


def _context(url: FunctionUrl, environ: dict, path: str, headers: dict[str, str]) -> dict:
    now = datetime.now(UTC)
    host = environ.get("HTTP_HOST", "")
    http = {
        "method": environ["REQUEST_METHOD"], "path": path, "protocol": environ.get("SERVER_PROTOCOL", "HTTP/1.1"),
        "sourceIp": environ.get("REMOTE_ADDR", ""), "userAgent": headers.get("user-agent", ""),
    }  # fmt: skip
    return {
        "accountId": settings.account if url.auth == "AWS_IAM" else "anonymous",
        "apiId": url.id, "domainName": host, "domainPrefix": url.id,
        "http": http, "requestId": secrets.token_hex(16), "routeKey": "$default", "stage": "$default",
        "time": now.strftime("%d/%b/%Y:%H:%M:%S +0000"), "timeEpoch": int(time.time() * 1000),
    }  # fmt: skip


def _encoded(body: bytes, content_type: str) -> tuple[str, bool]:
    if TEXT.match(content_type):
        try:
            return body.decode(), False
        except UnicodeDecodeError:
            pass  # it says text, and is none
    return base64.b64encode(body).decode(), True


def answer(payload: str) -> tuple[int, list[tuple[str, str]], bytes]:
    """What a handler's result (JSON text) is over HTTP: with a ``statusCode`` it describes the answer, else it is the body."""
    result = json.loads(payload)
    if not isinstance(result, dict) or "statusCode" not in result:
        return 200, [("Content-Type", "application/json")], payload.encode()
    body = result.get("body", "")
    text = body if isinstance(body, str) else json.dumps(body)
    headers = {str(name).lower(): str(value) for name, value in (result.get("headers") or {}).items()}
    try:
        status = int(result["statusCode"])
        raw = base64.b64decode(text, validate=True) if result.get("isBase64Encoded") else text.encode()
    except (TypeError, ValueError, binascii.Error):
        return _message(502, "Internal Server Error")
    if not 200 <= status <= 599 or any("\n" in text or "\r" in text for pair in headers.items() for text in pair):
        return _message(502, "Internal Server Error")
    cookies = [("Set-Cookie", str(cookie)) for cookie in result.get("cookies") or []]
    return status, [*{"content-type": "application/json", **headers}.items(), *cookies], raw


def _message(status: int, text: str) -> tuple[int, list[tuple[str, str]], bytes]:
    return status, [("Content-Type", "application/json")], json.dumps({"Message": text}).encode()


def _send(start_response, environ: dict, status: int, headers: list[tuple[str, str]], body: bytes) -> list[bytes]:
    kept = [(name, value) for name, value in headers if name.lower() not in ("content-length", "transfer-encoding", "connection")]
    phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Unknown"
    start_response(f"{status} {phrase}", [*kept, ("Content-Length", str(len(body)))])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]
