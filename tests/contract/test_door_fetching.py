"""The Lambda door against real sockets on loopback: TLS with the name's certificate, and peers that take their time."""

import datetime
import importlib.util
import socket
import ssl
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

JPEG = b"\xff\xd8\xff\xe0 a picture"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s" % (len(JPEG), JPEG)
FOREVER = 300  # seconds that a slow peer would go on


@pytest.fixture
def door(monkeypatch):
    """The door, with the rules off that keep it from loopback; half a second for each fetch."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    spec = importlib.util.spec_from_file_location("lambda_function", Path(__file__).resolve().parents[2] / "lambda_function.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "checked", urlsplit)
    monkeypatch.setattr(module, "addresses", lambda parts, deadline: ["127.0.0.1"])
    monkeypatch.setattr(module, "FETCH_SECONDS", 0.5)
    return module


@pytest.fixture
def peer():
    """Start a server that hands each connection to a function; returns its port."""
    stopped, listeners = threading.Event(), []

    def start(talk) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def accept():
            while not stopped.is_set():
                try:
                    connection, _ = listener.accept()
                    with connection:
                        talk(connection, stopped)
                except OSError:
                    continue  # the door hung up, or the test is over

        threading.Thread(target=accept, daemon=True).start()
        return listener.getsockname()[1]

    yield start
    stopped.set()
    for listener in listeners:
        listener.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A self-signed certificate of images.example.com: paths of certificate and key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "images.example.com")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("images.example.com")]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    folder = tmp_path_factory.mktemp("tls")
    (folder / "cert.pem").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(private)
    return SimpleNamespace(cert=folder / "cert.pem", key=folder / "key.pem")


@pytest.fixture
def secure_peer(peer, certificate, monkeypatch):
    """A TLS server that this process trusts; remembers the names it was asked for."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.cert))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert, certificate.key)
    names: list[str] = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)

    def talk(connection, _stopped):
        with context.wrap_socket(connection, server_side=True) as tls:
            tls.recv(65536)
            tls.sendall(ANSWER)

    return SimpleNamespace(port=peer(talk), names=names)


def test_tls_is_checked_against_the_name_and_not_the_address(door, secure_peer):
    assert door.fetch(f"https://images.example.com:{secure_peer.port}/dog.jpg") == JPEG
    assert secure_peer.names == ["images.example.com"]


def test_a_certificate_of_another_name_is_refused(door, secure_peer, caplog):
    with pytest.raises(door.Refusal, match="could not be fetched"):
        door.fetch(f"https://other.example.com:{secure_peer.port}/dog.jpg")
    assert "SSLCertVerificationError" in caplog.text


def stall(connection, stopped) -> None:
    """Send a beginning and nothing more."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nConnection: close\r\n\r\n" + JPEG)
    stopped.wait(FOREVER)


def test_a_peer_that_stalls_is_cut_at_the_deadline(door, peer, monkeypatch):
    monkeypatch.setattr(door, "READ_SECONDS", FOREVER)
    port = peer(stall)
    with pytest.raises(door.Refusal, match="could not be fetched"):
        door.fetch(f"http://images.example.com:{port}/dog.jpg")


def drip(connection, stopped, text: bytes) -> None:
    """Send a byte every 50 ms, far below any limit on a single read."""
    connection.sendall(text)
    ends = time.monotonic() + FOREVER
    while not stopped.wait(0.05) and time.monotonic() < ends:
        connection.sendall(b"x")


@pytest.mark.parametrize(
    "start",
    [
        b"HTTP/1.1 200 OK\r\nX-Slow: ",
        b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: 100000\r\n\r\n" + JPEG,
        b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n\r\n" + JPEG,
        b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nTransfer-Encoding: chunked\r\n\r\n5000\r\n" + JPEG,
    ],
    ids=["header", "body", "body without length", "chunk"],
)
def test_a_peer_that_drips_is_cut_at_the_deadline(door, peer, start):
    port = peer(lambda connection, stopped: drip(connection, stopped, start))
    with pytest.raises(door.Refusal, match="could not be fetched"):
        door.fetch(f"http://images.example.com:{port}/dog.jpg")


def test_a_peer_that_drips_in_the_handshake_is_cut_at_the_deadline(door, peer):
    record = b"\x16\x03\x03\x40\x00"  # a handshake record of 16 kB
    port = peer(lambda connection, stopped: drip(connection, stopped, record))
    with pytest.raises(door.Refusal, match="could not be fetched"):
        door.fetch(f"https://images.example.com:{port}/dog.jpg")
