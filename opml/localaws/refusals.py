"""How a refused request is answered: AWS's code, in the format of the service that was asked."""

import json
from http import HTTPStatus
from xml.sax.saxutils import escape

DRAINED = 2**20  # bytes of an unread body that are taken in before the answer, so that the client gets to read it

UNKNOWN = "The security token included in the request is invalid."
# What went wrong -> the code of JSON services, of query services (STS, IAM, EC2), of S3; and the usual message.
REFUSALS = {
    "missing": ("MissingAuthenticationTokenException", "MissingAuthenticationToken", "AccessDenied", "Missing Authentication Token"),
    "incomplete": ("IncompleteSignatureException", "IncompleteSignature", "AuthorizationHeaderMalformed", "The signature is incomplete."),
    "unknown key": ("UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId", UNKNOWN),
    "bad token": ("UnrecognizedClientException", "InvalidClientTokenId", "InvalidToken", UNKNOWN),
    "token expired": ("ExpiredTokenException", "ExpiredToken", "ExpiredToken", "The security token included in the request is expired"),
    "skew": (
        "InvalidSignatureException", "SignatureDoesNotMatch", "RequestTimeTooSkewed",
        "Signature expired or not yet current: the difference between the request time and the current time is too large.",
    ),
    "url expired": ("InvalidSignatureException", "SignatureDoesNotMatch", "AccessDenied", "Request has expired"),
    "mismatch": (
        "InvalidSignatureException", "SignatureDoesNotMatch", "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided."
        " Check your AWS Secret Access Key and signing method.",
    ),
    "body": (
        "InvalidSignatureException", "SignatureDoesNotMatch", "XAmzContentSHA256Mismatch",
        "The provided 'x-amz-content-sha256' header does not match what was computed.",
    ),
    "forbidden": ("AccessDeniedException", "AccessDenied", "AccessDenied", "Access Denied"),
    "not here": ("NotImplementedException", "NotImplemented", "NotImplemented", "The local AWS does not have this."),
}  # fmt: skip


class Refused(Exception):
    """The request may not pass; ``kind`` is a key of ``REFUSALS``."""

    def __init__(self, kind: str, message: str | None = None, service: str | None = None):
        self.kind, self.service = kind, service
        self.codes = dict(zip(("json", "query", "s3"), REFUSALS[kind][:3], strict=True))
        self.message = message or REFUSALS[kind][3]
        super().__init__(self.message)


def respond(refusal: Refused, environ: dict, start_response) -> list[bytes]:
    """Answer 403 (501 for what is not here) in the asked service's format, after taking in what is left of a small body."""
    status = HTTPStatus.NOT_IMPLEMENTED if refusal.kind == "not here" else HTTPStatus.FORBIDDEN
    _drain(environ)
    code, content_type, body = _format(refusal, environ)
    headers = [("Content-Type", content_type), ("Content-Length", str(len(body))), ("x-amzn-ErrorType", code), ("Connection", "close")]
    start_response(f"{status.value} {status.phrase}", headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


def unknown_service(environ: dict, start_response) -> list[bytes]:
    """The application of all services that moto does not know: 501, which clients do not repeat, and can read."""
    service = environ.get("opml.service", "")
    return respond(Refused("not here", f"The local AWS does not have the service {service}.", service), environ, start_response)


def unknown_operation(environ: dict, start_response) -> list[bytes]:
    """The same for an operation, known by method and path, of a service that moto does know."""
    asked = f"{environ['REQUEST_METHOD']} {environ.get('PATH_INFO', '')}"
    service = environ.get("opml.service", "")
    return respond(
        Refused("not here", f"The local AWS does not have this operation of {service}: {asked}", service), environ, start_response
    )


def _drain(environ: dict) -> None:
    length = environ.get("CONTENT_LENGTH") or "0"
    if length.isdigit() and 0 < int(length) <= DRAINED:
        environ["wsgi.input"].read(int(length))


def _format(refusal: Refused, environ: dict) -> tuple[str, str, bytes]:
    """(code, content type, body) as the service would write it; unsigned requests are judged by their looks."""
    kind = environ.get("CONTENT_TYPE") or ""
    service, message = refusal.service, refusal.message
    if environ.get("PATH_INFO", "").startswith("/lambda-url/"):  # a function URL tells nothing more than this
        return refusal.codes["json"], "application/json", b'{"Message":"Forbidden"}'
    if "cbor" in kind:
        return refusal.codes["json"], "application/cbor", _cbor({"__type": refusal.codes["json"], "message": message})
    if service == "ec2":
        return (
            refusal.codes["query"],
            "text/xml",
            _xml("<Response><Errors><Error>{}</Error></Errors></Response>", refusal.codes["query"], message),
        )
    if service in ("sts", "iam") or "x-www-form-urlencoded" in kind:
        body = _xml("<ErrorResponse><Error><Type>Sender</Type>{}</Error></ErrorResponse>", refusal.codes["query"], message)
        return refusal.codes["query"], "text/xml", body
    if service == "s3" or (service is None and "json" not in kind and "HTTP_X_AMZ_TARGET" not in environ):
        return refusal.codes["s3"], "application/xml", _xml("<Error>{}</Error>", refusal.codes["s3"], message)
    body = json.dumps({"__type": refusal.codes["json"], "message": message})
    return refusal.codes["json"], "application/x-amz-json-1.1", body.encode()


def _xml(frame: str, code: str, message: str) -> bytes:
    inner = f"<Code>{code}</Code><Message>{escape(message)}</Message>"
    return ('<?xml version="1.0" encoding="UTF-8"?>\n' + frame.format(inner)).encode()


def _cbor(texts: dict[str, str]) -> bytes:
    """A map of texts in CBOR (RFC 8949): what CloudWatch's protocol speaks."""

    def text(value: str) -> bytes:
        raw = value.encode()
        return b"\x79" + len(raw).to_bytes(2, "big") + raw  # major type 3 with a two-byte length

    return bytes([0xA0 + len(texts)]) + b"".join(text(key) + text(value) for key, value in texts.items())
