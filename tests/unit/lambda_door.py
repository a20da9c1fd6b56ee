"""The Lambda door for unit tests: freshly imported, with the network replaced at the socket and the endpoint at botocore's wire."""

import importlib.util
import io
import json
import socket
import ssl
from pathlib import Path
from types import SimpleNamespace

from botocore.response import StreamingBody
from botocore.stub import Stubber

ROOT = Path(__file__).resolve().parents[2]
JPEG = b"\xff\xd8\xff\xe0 a picture"
PNG = b"\x89PNG\r\n\x1a\n a picture"
WEBP = b"RIFF\x10\x00\x00\x00WEBPVP8 a picture"
PUBLIC = "93.184.215.14"
RESULT = {
    "logits": [[0.5, 2.0, -1.0]],
    "predictions": [[{"breed": "Affenpinscher", "probability": 0.7}, {"breed": "Briard", "probability": 0.2}]],
}
CONTEXT = SimpleNamespace(
    invoked_function_arn="arn:aws:lambda:us-east-1:123456789012:function:door",
    aws_request_id="request-of-the-context",
    log_stream_name="stream-of-the-context",
    get_remaining_time_in_millis=lambda: 30_000,
)


def load(monkeypatch, **environment: str):
    """Import ``lambda_function.py`` as Lambda does, in a given environment."""
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "ALLOWED_ORIGIN", "FUNCTION_TIMEOUT", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    keys = {"AWS_DEFAULT_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}
    for name, value in {**keys, "ENDPOINT_NAME": "dogs", **environment}.items():
        monkeypatch.setenv(name, value)
    spec = importlib.util.spec_from_file_location("lambda_function", ROOT / "lambda_function.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Endpoint:
    """The endpoint's side of the one client: answers in order."""

    def __init__(self, door):
        self.stubber = Stubber(door.sagemaker)
        self.stubber.activate()

    def answers(self, text: str | None = None, image: bytes = JPEG, content_type: str = "image/jpeg") -> None:
        body = (json.dumps(RESULT) if text is None else text).encode()
        expected = {"EndpointName": "dogs", "Body": image, "ContentType": content_type, "Accept": "application/json"}
        response = {"Body": StreamingBody(io.BytesIO(body), len(body)), "ContentType": "application/json"}
        self.stubber.add_response("invoke_endpoint", response, expected)

    def fails(self, code: str, status: int = 400, message: str = "", **members) -> None:
        self.stubber.add_client_error("invoke_endpoint", code, message, status, modeled_fields=members)


class Network:
    """The Internet behind ``socket.getaddrinfo`` and ``socket.create_connection``."""

    def __init__(self, monkeypatch):
        self.names: dict[str, list[str]] = {"images.example.com": [PUBLIC]}
        self.replies: list[bytes | Exception] = []
        self.connected: list[tuple[str, int]] = []
        self.tls: list[str] = []
        self.sent: list[bytes] = []
        self._look_up = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._getaddrinfo)
        monkeypatch.setattr(socket, "create_connection", self._create_connection)
        monkeypatch.setattr(ssl, "create_default_context", lambda: SimpleNamespace(wrap_socket=self._wrap))

    def serves(self, body: bytes = JPEG, content_type: str | None = "image/jpeg", status: str = "200 OK", **headers: str) -> None:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        lines = {"Content-Length": str(len(body)), **({"Content-Type": content_type} if content_type else {}), **given}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.replies.append(f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body)

    def redirects(self, location: str) -> None:
        self.serves(b"", None, "302 Found", Location=location)

    def _getaddrinfo(self, host, port, **options):
        if host in self.names:
            return [(socket.AF_INET6 if ":" in text else socket.AF_INET, 1, 6, "", (text, port)) for text in self.names[host]]
        return self._look_up(host, port, flags=socket.AI_NUMERICHOST, **options)  # 0x7f000001, 127.1 ...: what the C library makes of it

    def _create_connection(self, address, timeout):
        assert timeout <= 2.0
        self.connected.append(address)
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return Socket(reply, self.sent)

    def _wrap(self, sock, server_hostname, **options):
        self.tls.append(server_hostname)
        return sock


class Socket:
    """A connected socket that gives one recorded reply."""

    def __init__(self, reply: bytes, sent: list[bytes]):
        self._reply, self._sent = reply, sent

    def sendall(self, data: bytes) -> None:
        self._sent.append(data)

    def makefile(self, mode: str):
        return io.BytesIO(self._reply)

    def settimeout(self, seconds: float) -> None:
        assert seconds == 3.0

    def do_handshake(self) -> None:
        """Nothing to agree on."""

    def close(self) -> None:
        """Nothing to release."""
