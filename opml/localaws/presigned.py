"""Presigned URLs of S3 in signature version 2: what ``aws s3 presign`` and boto3 still make in us-east-1, unless told otherwise.

Recomputed with botocore's own signer (https://docs.aws.amazon.com/AmazonS3/latest/userguide/RESTAuthentication.html); nothing but such
URLs is accepted in this version. AWS refuses them for buckets of other regions only.
"""

import hmac
from datetime import UTC
from urllib.parse import parse_qsl, urlsplit

from botocore.auth import HmacV1Auth
from botocore.compat import HTTPHeaders
from botocore.credentials import Credentials

from opml.localaws.refusals import Refused

OWN = ("AWSAccessKeyId", "Signature", "Expires")
KEPT = {"CONTENT_TYPE": "Content-Type", "HTTP_CONTENT_MD5": "Content-MD5"}  # headers that are signed if they are sent


class _Signer(HmacV1Auth):
    """botocore's signer; the moment of expiry stands where a header's signature has the date."""

    def __init__(self, key: Credentials, expires: str):
        super().__init__(key)
        self._expires = expires

    def _get_date(self) -> str:
        return self._expires


def is_presigned(environ: dict) -> bool:
    """Whether a request carries such a signature in its query."""
    return not environ.get("HTTP_AUTHORIZATION") and all(f"{name}=" in environ.get("QUERY_STRING", "") for name in OWN)


def check(environ: dict, find_key, now: float) -> str:
    """The access key id that signed; raises ``Refused``. ``find_key`` as in ``signing.Gate``, ``now`` in seconds."""
    query = dict(parse_qsl(environ["QUERY_STRING"], keep_blank_values=True))
    key_id, expires = query["AWSAccessKeyId"], query["Expires"]
    if (key := find_key(key_id)) is None:
        raise Refused("unknown key", service="s3")
    if not expires.isdigit() or int(expires) < now:
        raise Refused("url expired", service="s3")
    if key.expires is not None and now > key.expires.replace(tzinfo=UTC).timestamp():
        raise Refused("token expired", service="s3")
    if not hmac.compare_digest((key.token or "").encode(), query.get("x-amz-security-token", "").encode()):
        raise Refused("bad token", service="s3")
    if not hmac.compare_digest(_signature(environ, Credentials(key_id, key.secret, key.token), expires), query["Signature"].encode()):
        raise Refused("mismatch", service="s3")
    return key_id


def _signature(environ: dict, key: Credentials, expires: str) -> bytes:
    url = urlsplit("http://host" + environ["RAW_URI"].removeprefix(f"http://{environ.get('HTTP_HOST')}"))
    headers = HTTPHeaders()
    for name, header in KEPT.items():
        if environ.get(name):
            headers[header] = environ[name]
    pairs = [pair for pair in url.query.split("&") if pair.partition("=")[0] not in (*OWN, "x-amz-security-token")]
    signed = url._replace(query="&".join(pairs))
    return _Signer(key, expires).get_signature(environ["REQUEST_METHOD"], signed, headers, auth_path=url.path).encode()
