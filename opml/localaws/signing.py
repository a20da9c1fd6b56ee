"""The gate before moto: only requests signed with credentials of this server pass. It executes code, so nothing else may reach it.

Signature version 4 is recomputed with botocore's own signer (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html);
the rules that differ for S3 (path not normalised, body hash optional) are in ``_Signer`` and ``_body_hash``.
"""

import hashlib
import hmac
import re
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol
from urllib.parse import parse_qs, urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders
from botocore.credentials import Credentials

from opml.localaws import presigned
from opml.localaws.refusals import Refused, respond

ALGORITHM = "AWS4-HMAC-SHA256"
SKEW = 15 * 60  # seconds that the clocks may differ, as AWS allows
WEEK = 7 * 24 * 3600  # longest life of a presigned URL, seconds
IN_MEMORY = 8 * 2**20  # larger bodies are spooled to disk while they are hashed
FORBIDDEN_PATHS = ("/moto-api", "/latest/")  # moto's own switches and the fake instance metadata (it hands out credentials)


received = threading.local()  # .at: when the request that this thread answers came in, by time.perf_counter


class KnownKey(Protocol):
    """What the gate must know of an access key."""

    secret: str
    token: str | None
    expires: datetime | None


@dataclass(frozen=True)
class Claim:
    """What a request says about its own signature."""

    access_key_id: str
    date: str  # of the scope, YYYYMMDD
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str
    timestamp: str  # YYYYMMDDTHHMMSSZ
    token: str | None
    expires: int | None  # seconds of life of a presigned URL; None for a signed header


class _Signer(SigV4Auth):
    """botocore's signer, told which headers were signed and whether the path is S3's."""

    def headers_to_sign(self, request):
        return request.headers

    def _normalize_url_path(self, path):
        return path if self._service_name == "s3" else super()._normalize_url_path(path)


class Gate:
    """WSGI middleware. ``find_key`` maps an access key id to its secret, or to None; ``is_public`` knows the paths that need no signature
    (function URLs of type NONE that everybody may call)."""

    def __init__(
        self, app, find_key: Callable[[str], KnownKey | None], port: int, clock: Callable[[], float] = time.time,
        is_public: Callable[[str], bool] = lambda path: False,
    ):  # fmt: skip
        self.app, self.find_key, self.port, self.clock, self.is_public = app, find_key, port, clock, is_public
        self.last_request = time.monotonic()

    def __call__(self, environ, start_response):
        received.at = time.perf_counter()
        try:
            claim = self.check(environ)
        except Refused as refusal:
            return respond(refusal, environ, start_response)
        self.last_request = time.monotonic()
        if claim is not None:
            environ["opml.access_key_id"], environ["opml.service"] = claim.access_key_id, claim.service  # who asks: iam_gate reads it
        return self.app(environ, start_response)

    def check(self, environ: dict) -> Claim | None:
        """Return the signature's claim if the request may pass (None: it needs no signature), else raise ``Refused``."""
        _check_host(environ.get("HTTP_HOST", ""), self.port)
        if self.is_public(environ.get("PATH_INFO", "")):
            return None
        if presigned.is_presigned(environ) and not environ.get("PATH_INFO", "").startswith(FORBIDDEN_PATHS):
            return Claim(presigned.check(environ, self.find_key, self.clock()), "", "", "s3", (), "", "", None, None)
        claim = read_claim(environ)
        if environ.get("PATH_INFO", "").startswith(FORBIDDEN_PATHS):
            raise Refused("forbidden", "This path is not part of AWS.", claim.service)
        key = self.find_key(claim.access_key_id)
        if key is None:
            raise Refused("unknown key", service=claim.service)
        self._check_time(claim, key)
        _check_token(claim, key)
        expected = signature(environ, claim, key.secret, _body_hash(environ, claim))
        if not hmac.compare_digest(expected.encode(), claim.signature.encode()):
            raise Refused("mismatch", service=claim.service)
        return claim

    def _check_time(self, claim: Claim, key: KnownKey) -> None:
        now, signed = self.clock(), _seconds(claim)
        if claim.expires is None:
            if abs(now - signed) > SKEW:
                raise Refused("skew", service=claim.service)
        elif not 1 <= claim.expires <= WEEK:
            raise Refused("incomplete", "X-Amz-Expires must be between 1 second and a week.", claim.service)
        elif now > signed + claim.expires or signed > now + SKEW:
            raise Refused("url expired", service=claim.service)
        if key.expires is not None and now > key.expires.replace(tzinfo=UTC).timestamp():
            raise Refused("token expired", service=claim.service)


def _check_host(host: str, port: int) -> None:
    """A page of another site can point its own name at 127.0.0.1 (DNS rebinding), but cannot change the Host header."""
    name, _, given = host.rpartition(":")
    if given != str(port) or not (name in ("127.0.0.1", "localhost") or name.endswith(".localhost")):
        raise Refused("forbidden", f"The local AWS answers to 127.0.0.1:{port} and localhost:{port} only.")


def _check_token(claim: Claim, key: KnownKey) -> None:
    """Temporary credentials come with their token, permanent ones without."""
    if not hmac.compare_digest((key.token or "").encode(), (claim.token or "").encode()):
        raise Refused("bad token", service=claim.service)


def _seconds(claim: Claim) -> float:
    try:
        signed = datetime.strptime(claim.timestamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise Refused("incomplete", "The date must be given as X-Amz-Date: YYYYMMDDTHHMMSSZ.", claim.service) from None
    if claim.date != claim.timestamp[:8]:
        raise Refused("incomplete", "The date of the credential scope is not that of X-Amz-Date.", claim.service)
    return signed.timestamp()


def read_claim(environ: dict) -> Claim:
    """The signature of a request, from its Authorization header or its query (presigned URL)."""
    if header := environ.get("HTTP_AUTHORIZATION"):
        return _claim_of_header(header, environ)
    query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
    if "X-Amz-Signature" in query:
        return _claim_of_query({name: values[0] for name, values in query.items()})
    raise Refused("missing")


def _claim_of_header(header: str, environ: dict) -> Claim:
    scheme, _, rest = header.partition(" ")
    if scheme != ALGORITHM:
        raise Refused("incomplete", f"Authorization must use {ALGORITHM}.")
    fields = dict(re.findall(r"(Credential|SignedHeaders|Signature)=([^,\s]+)", rest))
    if len(fields) < 3:
        raise Refused("incomplete", "Authorization header requires Credential, SignedHeaders and Signature.")
    timestamp, token = environ.get("HTTP_X_AMZ_DATE", ""), environ.get("HTTP_X_AMZ_SECURITY_TOKEN")
    return _claim(fields["Credential"], fields["SignedHeaders"], fields["Signature"], timestamp, token, None)


def _claim_of_query(query: dict[str, str]) -> Claim:
    try:
        expires = int(query.get("X-Amz-Expires", ""))
    except ValueError:
        raise Refused("incomplete", "X-Amz-Expires must be a number of seconds.") from None
    if query.get("X-Amz-Algorithm") != ALGORITHM:
        raise Refused("incomplete", f"X-Amz-Algorithm must be {ALGORITHM}.")
    names = ("X-Amz-Credential", "X-Amz-SignedHeaders", "X-Amz-Signature", "X-Amz-Date")
    return _claim(*(query.get(name, "") for name in names), query.get("X-Amz-Security-Token"), expires)


def _claim(credential: str, signed_headers: str, signature: str, timestamp: str, token: str | None, expires: int | None) -> Claim:
    parts = credential.split("/")
    headers = tuple(signed_headers.lower().split(";"))
    if len(parts) != 5 or parts[4] != "aws4_request" or "host" not in headers:
        raise Refused("incomplete", "Credential must be KEY/DATE/REGION/SERVICE/aws4_request, and Host must be signed.")
    return Claim(*parts[:4], headers, signature, timestamp, token, expires)


def signature(environ: dict, claim: Claim, secret: str, body_hash: str) -> str:
    """The signature that this request must carry, given the secret and the hash of its body."""
    request = AWSRequest(method=environ["REQUEST_METHOD"], url=_signed_url(environ), headers=_signed_headers(environ, claim))
    request.context["timestamp"] = claim.timestamp
    signer = _Signer(Credentials(claim.access_key_id, secret), claim.service, claim.region)
    signer.payload = lambda _request: body_hash
    return signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)


def _signed_url(environ: dict) -> str:
    """The URL as it came over the wire (WSGI decodes the path; signatures are about the encoded one), without its signature."""
    raw = urlsplit("http://host" + re.sub(r"^https?://[^/?]*", "", environ["RAW_URI"]))
    query = "&".join(pair for pair in raw.query.split("&") if not pair.startswith("X-Amz-Signature="))
    return f"http://host{raw.path or '/'}?{query}"


def _signed_headers(environ: dict, claim: Claim) -> HTTPHeaders:
    headers = HTTPHeaders()
    for name in claim.signed_headers:
        key = name.upper().replace("-", "_")
        value = environ.get(key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}")
        if value is None:
            raise Refused("mismatch", service=claim.service)
        headers[name] = value
    return headers


def _body_hash(environ: dict, claim: Claim) -> str:
    """The hash that was signed; where it is one of the body, the body is read and compared."""
    given = environ.get("HTTP_X_AMZ_CONTENT_SHA256")
    if claim.service == "s3":
        if given is None and claim.expires is not None:
            return "UNSIGNED-PAYLOAD"  # who presigns a URL does not know the body yet
        if given is None:
            raise Refused("incomplete", "Missing required header for this request: x-amz-content-sha256", "s3")
        if given == "UNSIGNED-PAYLOAD" or given.startswith("STREAMING-"):
            return given
    actual = _hash_body(environ)
    if given is not None and not hmac.compare_digest(given.encode(), actual.encode()):
        raise Refused("body", service=claim.service)
    return actual


def _hash_body(environ: dict) -> str:
    """SHA-256 of the body in hexadecimal; leaves a readable copy in its place."""
    source = environ["wsgi.input"]
    left = None if environ.get("wsgi.input_terminated") else int(environ.get("CONTENT_LENGTH") or 0)
    copy, digest = tempfile.SpooledTemporaryFile(IN_MEMORY), hashlib.sha256()  # noqa: SIM115 (the application reads it later)
    while left is None or left > 0:
        chunk = source.read(65536 if left is None else min(65536, left))
        if not chunk:
            break
        digest.update(chunk)
        copy.write(chunk)
        left = None if left is None else left - len(chunk)
    copy.seek(0)
    environ["wsgi.input"] = copy
    return digest.hexdigest()
