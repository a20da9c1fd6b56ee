"""The Lambda door: fetch one image by URL, ask the endpoint for its breed, return the answer.

One self-contained file: the standard library and boto3, both part of Lambda's Python runtime.

Environment
    ENDPOINT_NAME       the SageMaker endpoint; the caller never chooses it
    FUNCTION_TIMEOUT    the function's own timeout in seconds (30): how long the endpoint may take follows from it
    ALLOWED_ORIGIN      origin of the one web page that may read answers in a browser (unset: none)

Event
    {"url": "https://..."}          a JPEG, PNG or WebP of at most 5 MB on a public address
    {"image": "<base64>"}           the same bytes, for a function without a way to the Internet
    an API Gateway or function URL event whose body is one of these two

Answer
    statusCode, headers, body (a JSON string of a list of one list of logits), predictions (the five likeliest breeds with their
    probability), type-result (the Python type of the endpoint's answer) and COntent-Type-In (the content type of the image: what came in).
    After an error: statusCode, headers and body, a JSON string with one sentence under "error". The cause goes to the log, never to the
    caller: nothing of the context, the account, an ARN or a stack trace is ever returned.

Fetching a stranger's URL is dangerous, since the function stands inside the account's network: see `fetch`. One address is trusted without
being public: exactly the origin (scheme, host and port) in AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL. Where AWS itself is not at its public
address (a VPC endpoint, a local AWS), a presigned S3 URL points there. The request carries no credentials but the URL's own.
"""

import base64
import binascii
import contextlib
import http.client
import ipaddress
import json
import logging
import os
import random
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urljoin, urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, ReadTimeoutError

MAX_IMAGE_BYTES = 5_000_000  # the endpoint takes 6 MB, and base64 in a Lambda event of 6 MB leaves about 4.5
MAX_URL_LENGTH = 4096  # presigned URLs with a session token are about 1,500 characters
MAX_REDIRECTS = 3
CONNECT_SECONDS = 2.0
READ_SECONDS = 3.0
FUNCTION_TIMEOUT = float(os.environ.get("FUNCTION_TIMEOUT", "30"))
FETCH_SECONDS = min(8.0, FUNCTION_TIMEOUT / 3)  # for everything: the name, redirects, headers and a body that comes drop by drop
ENDPOINT_SECONDS = max(1.0, FUNCTION_TIMEOUT - FETCH_SECONDS - CONNECT_SECONDS - 1.0)  # leaves 1 s to answer

IMAGE_TYPES = ("image/jpeg", "image/jpg", "image/png", "image/webp")
UNDECLARED_TYPES = ("", "application/octet-stream", "binary/octet-stream")  # what S3 says of an object stored without a type

# Not public although ipaddress calls (or called, before 3.12.4) some of them global.
NEVER = [
    ipaddress.ip_network(text) for text in ("100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "2001::/23", "2001:db8::/32", "3fff::/20")
]
PUBLIC_IPV6 = ipaddress.ip_network("2000::/3")  # all unicast addresses given out so far
NAT64 = ipaddress.ip_network("64:ff9b::/96")  # a public IPv4 address seen from a network that has IPv6 only

# One client for all invocations of an environment. No retries inside: `invoke` decides what may be sent twice.
sagemaker = boto3.client(
    "sagemaker-runtime",
    config=Config(connect_timeout=CONNECT_SECONDS, read_timeout=ENDPOINT_SECONDS, retries={"mode": "standard", "total_max_attempts": 1}),
)
log = logging.getLogger("lambda_function")


class Refusal(Exception):
    """What the caller is told: a status and one sentence that gives nothing away."""

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


NOT_FETCHED = "The image could not be fetched from this URL."  # the same for blocked and for unreachable: we are no port scanner
NOT_AN_IMAGE = "The image must be a JPEG, a PNG or a WebP."
TOO_LARGE = f"The image must not be larger than {MAX_IMAGE_BYTES // 1_000_000} MB."
BROKEN = "The service is not set up correctly; its operators can read why in the log."
FAILED = "The model could not answer; its operators can read why in the log."
BUSY = "The service is busy: try again in a few seconds."
TOO_SLOW = "The model did not answer in time."
FROM_MODEL = {413: "The image is too large for the model.", 415: NOT_AN_IMAGE, 422: "The image is damaged or cannot be decoded."}


# ---- the handler ------------------------------------------------------------------------------------------------------------------


def lambda_handler(event, context):
    """Answer one event; never raises, so that nothing of a stack trace can reach the caller."""
    try:
        image, content_type = image_of(event)
        return success(ask(image, content_type), content_type)
    except Refusal as refusal:
        return answer(refusal.status, {"error": refusal.sentence})
    except Exception:
        log.exception("unexpected failure")
        return answer(500, {"error": "The service failed; its operators can read why in the log."})


def answer(status, body, **more):
    """The answer's frame, which API Gateway and function URLs understand.

    No wildcard for browsers: any web page could use the function through its visitors, at our cost. The one that may is ALLOWED_ORIGIN.
    """
    headers = {"Content-Type": "application/json"}
    if origin := os.environ.get("ALLOWED_ORIGIN"):
        headers |= {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}
    if status in (429, 503):
        headers["Retry-After"] = "2"
    return {"statusCode": status, "headers": headers, **more, "body": json.dumps(body)}


def success(text, content_type):
    """The answer in the form that the course's users know. ``text`` is what the endpoint said."""
    try:
        result = json.loads(text)
        logits = result["logits"]
        predictions = [{"breed": str(one["breed"]), "probability": float(one["probability"])} for one in result["predictions"][0]]
        body = [[float(value) for value in row] for row in logits]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        log.error("the endpoint's answer is not {logits, predictions}: %r: %.300r", error, text)
        raise Refusal(502, FAILED) from error
    return answer(200, body, **{"type-result": str(type(text)), "COntent-Type-In": content_type, "predictions": predictions})


# ---- the event --------------------------------------------------------------------------------------------------------------------


def image_of(event):
    """The image of an event and its content type, fetched or decoded."""
    request = request_of(event)
    url, encoded = request.get("url"), request.get("image")
    if (url is None) == (encoded is None):
        raise Refusal(400, 'Send {"url": "https://..."} or {"image": "<base64>"}, and one of them only.')
    data = fetch(url) if encoded is None else decoded(encoded)
    return data, kind_of(data)


def request_of(event):
    """The JSON object itself, or the body of an API Gateway or function URL event."""
    if isinstance(event, dict) and "body" in event:
        event = body_of(event)
    if not isinstance(event, dict):
        raise Refusal(400, 'The event must be a JSON object such as {"url": "https://..."}.')
    return event


def body_of(event):
    """The JSON value in an HTTP event's body, base64 or not."""
    body = event["body"]
    if not isinstance(body, str) or not body:
        raise Refusal(400, 'The body is empty: send {"url": "https://..."}.')
    try:
        return json.loads(base64.b64decode(body, validate=True) if event.get("isBase64Encoded") else body)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "The body is not JSON.") from error


def decoded(encoded):
    """The bytes of a base64 text."""
    if not isinstance(encoded, str) or not encoded:
        raise Refusal(400, '"image" must be a base64 string.')
    if len(encoded) > MAX_IMAGE_BYTES * 4 // 3 + 4:
        raise Refusal(413, TOO_LARGE)
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal(400, '"image" must be a base64 string.') from error


def kind_of(data):
    """The content type by the file's first bytes; what the sender declares is not believed."""
    if not data:
        raise Refusal(400, "The image is empty.")
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    raise Refusal(415, NOT_AN_IMAGE)


# ---- fetching a stranger's URL ----------------------------------------------------------------------------------------------------


class Unreachable(Exception):
    """Why a URL was not fetched: for the log."""


def fetch(url):
    """The bytes behind a URL, if it is harmless to ask for them.

    https or http on their own ports, no user name; every address of the name is public; the connection goes to the very address that was
    checked, so that a second look-up cannot lead elsewhere; each redirect is checked again, and never leads from https to http; proxies
    of the environment are not used; one deadline for everything; at most MAX_IMAGE_BYTES, uncompressed.
    """
    deadline = time.monotonic() + FETCH_SECONDS
    for _ in range(MAX_REDIRECTS + 1):
        parts = checked(url)
        try:
            target = download(parts, deadline)
        except (Unreachable, OSError, http.client.HTTPException, ValueError) as error:
            log.warning("not fetched: %s://%s%s: %s: %s", parts.scheme, parts.hostname, parts.path, type(error).__name__, error)
            raise Refusal(400, NOT_FETCHED) from error
        if isinstance(target, bytes):
            return target
        url = urljoin(url, target)
        if parts.scheme == "https" and not url.startswith("https:"):
            log.warning("not fetched: redirect from https to http at %s", parts.hostname)
            raise Refusal(400, NOT_FETCHED)
    log.warning("not fetched: more than %d redirects from %s", MAX_REDIRECTS, parts.hostname)
    raise Refusal(400, NOT_FETCHED)


def checked(url):
    """The parts of a URL whose form is allowed."""
    if not isinstance(url, str) or len(url) > MAX_URL_LENGTH or not url.isascii() or any(c <= " " or c == "\\" for c in url):
        raise Refusal(400, f'"url" must be a string of at most {MAX_URL_LENGTH} printable ASCII characters.')
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError as error:
        raise Refusal(400, '"url" is not a URL.') from error
    if parts.scheme not in ("http", "https") or not host or len(host) > 253 or "@" in parts.netloc or "%" in host:
        raise Refusal(400, '"url" must be an http or https address without a user name.')
    if not trusted(parts) and (port or port_of(parts)) != (443 if parts.scheme == "https" else 80):
        raise Refusal(400, '"url" must use the standard port of http (80) or https (443).')
    return parts


def port_of(parts):
    """The port of a URL."""
    return parts.port if parts.port is not None else (443 if parts.scheme == "https" else 80)


def trusted(parts):
    """Whether this is the very origin at which the environment says that AWS is."""
    aws = urlsplit(os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "")
    return bool(aws.hostname) and (aws.scheme, aws.hostname, port_of(aws)) == (parts.scheme, parts.hostname, port_of(parts))


def download(parts, deadline):
    """Bytes, or the location of a redirect (str)."""
    with timed_connection(parts, addresses(parts, deadline), deadline) as connection:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        host = parts.netloc.rpartition("@")[2]
        connection.request("GET", path, headers={"Host": host, "User-Agent": "opml", "Accept": "image/*", "Accept-Encoding": "identity"})
        response = connection.getresponse()
        if response.status in (301, 302, 303, 307, 308) and response.getheader("Location"):
            return response.getheader("Location")
        if response.status != 200:
            raise Unreachable(f"status {response.status}")
        return body_within(response, deadline)


def addresses(parts, deadline):
    """The addresses of a URL's host, all of them harmless."""
    resolver = ThreadPoolExecutor(1)  # getaddrinfo has no time-out of its own, and the name's owner decides how slow it is
    look_up = resolver.submit(socket.getaddrinfo, parts.hostname, port_of(parts), type=socket.SOCK_STREAM)
    resolver.shutdown(wait=False)
    found = [entry[4][0] for entry in look_up.result(timeout=max(0.0, deadline - time.monotonic()))]
    if not trusted(parts) and (hidden := [text for text in found if not is_public(text)]):
        raise Unreachable(f"not a public address: {hidden}")
    return found


def is_public(text):
    """Whether an address belongs to the public Internet; an IPv4 address inside an IPv6 one is judged as itself."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if address.version == 6:
        inner = address.ipv4_mapped or address.sixtofour or (ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in NAT64 else None)
        if inner is not None:
            return is_public(str(inner))
        if address not in PUBLIC_IPV6:
            return False
    return address.is_global and not address.is_multicast and not any(address in network for network in NEVER)


@contextlib.contextmanager
def timed_connection(parts, found, deadline):
    """A connection to one of the checked addresses that is cut at the deadline, even in the middle of a handshake or a header."""
    sockets = [connect(found, port_of(parts), deadline)]
    alarm = threading.Timer(max(0.0, deadline - time.monotonic()), cut, args=(sockets,))
    alarm.start()
    connection = http.client.HTTPConnection(parts.hostname, port_of(parts))
    try:
        if parts.scheme == "https":
            secure(sockets, parts.hostname)
        connection.sock = sockets[-1]  # http.client asks no resolver and no proxy when the socket is there
        yield connection
    finally:
        alarm.cancel()
        sockets[-1].close()


def connect(found, port, deadline):
    """A socket to the first address that accepts."""
    problem = Unreachable("the time is over")
    for address in found:
        left = deadline - time.monotonic()
        if left <= 0:
            break
        try:
            connected = socket.create_connection((address, port), timeout=min(CONNECT_SECONDS, left))
        except OSError as error:
            problem = error
        else:
            connected.settimeout(READ_SECONDS)
            return connected
    raise problem


def secure(sockets, name):
    """Add the TLS socket: certificate and SNI are those of the name, not of the address."""
    context = ssl.create_default_context()
    sockets.append(context.wrap_socket(sockets[-1], server_hostname=name, do_handshake_on_connect=False))
    sockets[-1].do_handshake()  # only now, so that the alarm can cut it


def cut(sockets):
    """End a connection whose time is over; whoever waits for it gets an error or a short body."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sockets[-1], socket.SHUT_RDWR)  # the base class's: it leaves the TLS state to the reader


def body_within(response, deadline):
    """The body, if it declares an image (or nothing) and stays within size and time."""
    declared = (response.getheader("Content-Type") or "").partition(";")[0].strip().lower()
    if declared not in (*IMAGE_TYPES, *UNDECLARED_TYPES):
        raise Refusal(415, NOT_AN_IMAGE)
    expected, data = int(response.getheader("Content-Length") or -1), b""
    while len(data) <= MAX_IMAGE_BYTES >= expected and (chunk := response.read1(65536)):
        data += chunk
        if time.monotonic() > deadline:
            raise Unreachable("the time is over")
    if max(len(data), expected) > MAX_IMAGE_BYTES:
        raise Refusal(413, TOO_LARGE)
    if len(data) < expected or time.monotonic() > deadline:  # the alarm cut it
        raise Unreachable(f"only {len(data)} bytes came, or the time is over")
    return data


# ---- asking the endpoint ----------------------------------------------------------------------------------------------------------

# code of the service's error -> status and sentence for the caller, and whether one more try may help
SERVICE_ERRORS = {
    "ThrottlingException": (429, BUSY, True),
    "ServiceUnavailable": (503, BUSY, True),
    "ModelNotReadyException": (503, BUSY, False),
    "InternalFailure": (502, FAILED, True),
    "InternalDependencyException": (502, FAILED, True),
}  # any other: 500, not again


def ask(image, content_type):
    """What the endpoint says about an image (JSON text)."""
    name = os.environ.get("ENDPOINT_NAME")
    if not name:
        log.error("ENDPOINT_NAME is not set: set it in the function's configuration")
        raise Refusal(500, BROKEN)
    try:
        return invoke(name, image, content_type)
    except (ReadTimeoutError, ConnectTimeoutError) as error:  # not again: a second call would double the load
        log.error("endpoint %s: %s", name, error)
        raise Refusal(504, TOO_SLOW) from error
    except ClientError as error:
        raise refusal_of(error, name) from error
    except BotoCoreError as error:
        log.error("endpoint %s: %s", name, error)
        raise Refusal(502, FAILED) from error


def invoke(name, image, content_type):
    """InvokeEndpoint; where the service itself is busy or failed, once more after a moment."""
    request = {"EndpointName": name, "Body": image, "ContentType": content_type, "Accept": "application/json"}
    started = time.monotonic()
    try:
        response = sagemaker.invoke_endpoint(**request)
    except ClientError as error:
        if not SERVICE_ERRORS.get(error.response["Error"]["Code"], (0, "", False))[2] or time.monotonic() - started > ENDPOINT_SECONDS / 4:
            raise
        log.warning("endpoint %s: %s: once more", name, error)
        time.sleep(random.uniform(0.1, 0.4))  # jitter: callers that were refused together do not come back together
        response = sagemaker.invoke_endpoint(**request)
    return response["Body"].read().decode("utf-8", "replace")


def refusal_of(error, name):
    """The Refusal for an error of the service: safe text for the caller, everything for the log."""
    code = error.response["Error"]["Code"]
    if code == "ModelError":
        return model_refusal(error.response, name)
    log.error("endpoint %s: %s", name, error)
    if code in SERVICE_ERRORS:
        return Refusal(*SERVICE_ERRORS[code][:2])
    if code == "ValidationError" and "length" in str(error):
        return Refusal(413, TOO_LARGE)
    return Refusal(500, BROKEN)  # no such endpoint, no permission, or something new: not the caller's fault


def model_refusal(said, name):
    """The Refusal for an error of the model: 4xx is about the image, 0 means that no answer came, the rest is ours."""
    status = said.get("OriginalStatusCode", 500)
    log.error("endpoint %s: model error %s: %s (%s)", name, status, said.get("OriginalMessage"), said.get("LogStreamArn"))
    if status == 0:
        return Refusal(504, TOO_SLOW)
    if 400 <= status < 500:
        return Refusal(status if status in FROM_MODEL else 400, FROM_MODEL.get(status, "The model refused the image."))
    return Refusal(502, FAILED)
