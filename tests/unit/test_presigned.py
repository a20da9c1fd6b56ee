"""URLs of S3 in signature version 2, made by botocore as clients make them."""

import time

import pytest
from botocore.auth import HmacV1QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from test_signing import KEYS, SECRET, TOKEN, environ_of

from opml.localaws import presigned
from opml.localaws.refusals import Refused

KEY = "AKIAOWNER"


def environ(key=KEY, secret=SECRET, token=None, method="GET", path="/bucket/a%20dog.jpg", seconds=60):
    """The environment of a request to a URL that these credentials presigned."""
    request = AWSRequest(method=method, url=f"http://127.0.0.1:5000{path}")
    HmacV1QueryAuth(Credentials(key, secret, token), expires=seconds).add_auth(request)
    return environ_of(request)


def refusal(environ, now=None):
    with pytest.raises(Refused) as caught:
        presigned.check(environ, KEYS.get, now or time.time())
    return caught.value.codes["s3"]


@pytest.mark.parametrize("path", ["/bucket/a%20dog.jpg", "/bucket/k?response-content-type=image%2Fjpeg", "/bucket/k?versionId=3"])
def test_a_url_of_a_known_key_passes(path):
    made = environ(path=path)
    assert presigned.is_presigned(made) and presigned.check(made, KEYS.get, time.time()) == KEY


def test_a_url_of_a_session_needs_its_token():
    made = environ(key="ASIAROLE", token=TOKEN)
    assert presigned.check(made, KEYS.get, time.time()) == "ASIAROLE"
    assert refusal(environ(key="ASIAROLE")) == "InvalidToken"


def test_what_was_altered_is_refused():
    made = environ()
    assert refusal({**made, "RAW_URI": made["RAW_URI"].replace("dog", "cat")}) == "SignatureDoesNotMatch"
    assert refusal({**made, "REQUEST_METHOD": "PUT"}) == "SignatureDoesNotMatch"
    expires = made["QUERY_STRING"].split("Expires=")[1].split("&")[0]
    later = {name: str(made[name]).replace(expires, "9999999999") for name in ("RAW_URI", "QUERY_STRING")}
    assert refusal({**made, **later}) == "SignatureDoesNotMatch"


def test_guessed_secrets_unknown_keys_and_old_urls_are_refused():
    assert refusal(environ(secret="guessed")) == "SignatureDoesNotMatch"
    assert refusal(environ(key="AKIANOBODY")) == "InvalidAccessKeyId"
    assert refusal(environ(), now=time.time() + 61) == "AccessDenied"
    assert refusal(environ(key="ASIAOLD", token=TOKEN)) == "ExpiredToken"


def test_a_signed_header_is_not_taken_for_a_presigned_url():
    assert not presigned.is_presigned({**environ(), "HTTP_AUTHORIZATION": "AWS4-HMAC-SHA256 x"})
    assert not presigned.is_presigned({"QUERY_STRING": "list-type=2"})
