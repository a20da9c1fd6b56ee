"""What the Lambda door does with a stranger's URL. No socket is opened: the network is replaced."""

import json

import pytest
from lambda_door import CONTEXT, JPEG, PUBLIC, Endpoint, Network, load

LOCAL = "http://127.0.0.1:5000"


@pytest.fixture
def network(monkeypatch):
    return Network(monkeypatch)


@pytest.fixture
def door(monkeypatch):
    return load(monkeypatch)


def status(door, url: str) -> int:
    return door.lambda_handler({"url": url}, CONTEXT)["statusCode"]


def sentence(door, url: str) -> str:
    return json.loads(door.lambda_handler({"url": url}, CONTEXT)["body"])["error"]


HOSTILE = [
    "http://127.0.0.1/", "http://localhost/", "http://0.0.0.0/", "http://2130706433/", "http://0x7f000001/", "http://0177.0.0.1/",
    "http://127.1/", "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://[::ffff:a9fe:a9fe]/", "http://169.254.169.254/latest/meta-data/",
    "http://[fd00:ec2::254]/", "http://[64:ff9b::a9fe:a9fe]/", "http://10.0.0.7/", "http://100.64.0.1/",
    "http://images.example.com@127.0.0.1/", "ftp://images.example.com/dog.jpg", "file:///etc/passwd",
]  # fmt: skip
ALSO_HOSTILE = [
    "http://169.254.170.2/v2/credentials", "http://127.0.0.1:9001/2018-06-01/runtime/invocation/next", "http://images.example.com:22/",
    "https://images.example.com:80/", "http://[2002:7f00:1::]/", "http://[2002:a9fe:a9fe::1]/", "http://[fe80::1%25eth0]/", "http://[fec0::1]/",
    "http://[ff02::1]/", "http://224.0.0.1/", "http://255.255.255.255/", "http://192.168.1.1/", "http://172.16.0.1/", "http://192.0.0.8/",
    "http://[5f00::1]/", "http://[2001:db8::1]/", "http://[::]/", "http://[64:ff9b:1::1]/", "http://user:pw@images.example.com/",
    "gopher://images.example.com/", "http:///dog.jpg", "http://images.example.com\\@127.0.0.1/", "data:image/png;base64,AAAA", "",
]  # fmt: skip


@pytest.mark.parametrize("url", [*HOSTILE, *ALSO_HOSTILE])
def test_a_hostile_url_is_refused_before_a_connection(door, network, url):
    network.names["localhost"] = ["127.0.0.1", "::1"]
    assert status(door, url) == 400
    assert network.connected == []


def test_all_eighteen_forms_of_the_survey_are_there():
    assert len(set(HOSTILE)) == 18


def test_one_private_address_among_public_ones_is_enough_to_refuse(door, network):
    network.names["images.example.com"] = [PUBLIC, "10.0.0.1"]
    assert status(door, "https://images.example.com/dog.jpg") == 400
    assert network.connected == []


def test_the_connection_goes_to_the_checked_address_with_the_names_host_and_sni(door, network):
    Endpoint(door).answers()
    network.serves()
    assert status(door, "https://images.example.com/a/dog.jpg?size=1#top") == 200
    assert network.connected == [(PUBLIC, 443)]
    assert network.tls == ["images.example.com"]
    request = network.sent[0].decode()
    assert request.startswith("GET /a/dog.jpg?size=1 HTTP/1.1\r\n")
    assert "\r\nHost: images.example.com\r\n" in request and "\r\nAccept-Encoding: identity\r\n" in request
    assert "Authorization" not in request and "Cookie" not in request


def test_the_next_address_is_tried_when_one_does_not_answer(door, network):
    Endpoint(door).answers()
    network.names["images.example.com"] = ["2606:2800:21f::1", PUBLIC]
    network.replies.append(OSError("no route"))
    network.serves()
    assert status(door, "http://images.example.com/dog.jpg") == 200
    assert network.connected == [("2606:2800:21f::1", 80), (PUBLIC, 80)]


def test_proxies_of_the_environment_are_not_used(door, network, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://10.0.0.9:3128")
    monkeypatch.setenv("http_proxy", "http://10.0.0.9:3128")
    Endpoint(door).answers()
    network.serves()
    assert status(door, "http://images.example.com/dog.jpg") == 200
    assert network.connected == [(PUBLIC, 80)]


def test_blocked_and_unreachable_have_the_same_text_and_the_log_the_cause(door, network, caplog):
    network.names["inside.example.com"] = ["10.0.0.1"]
    network.replies.append(ConnectionRefusedError("refused"))
    blocked = sentence(door, "http://inside.example.com/?token=hidden")
    refused = sentence(door, "http://images.example.com/?token=hidden")
    unknown = sentence(door, "http://nowhere.example.com/?token=hidden")
    assert blocked == refused == unknown == "The image could not be fetched from this URL."
    assert "not a public address: ['10.0.0.1']" in caplog.text and "ConnectionRefusedError" in caplog.text
    assert "hidden" not in caplog.text, "a presigned URL's signature does not belong in a log"


@pytest.mark.parametrize(
    "target",
    ["http://169.254.169.254/", "http://127.0.0.1/", "ftp://images.example.com/", "http://images.example.com:8080/", "//10.0.0.1/x"],
)
def test_a_redirect_is_checked_like_a_url(door, network, target):
    network.redirects(target)
    assert status(door, "http://images.example.com/dog.jpg") == 400
    assert len(network.connected) == 1


def test_a_redirect_may_lead_to_https_and_never_back(door, network):
    Endpoint(door).answers()
    network.redirects("https://images.example.com/dog.jpg")
    network.serves()
    assert status(door, "http://images.example.com/dog.jpg") == 200
    network.redirects("http://images.example.com/dog.jpg")
    assert status(door, "https://images.example.com/dog.jpg") == 400


def test_three_redirects_are_followed_and_not_four(door, network):
    Endpoint(door).answers()
    for _ in range(3):
        network.redirects("/dog.jpg")
    network.serves()
    assert status(door, "http://images.example.com/") == 200
    for _ in range(4):
        network.redirects("/dog.jpg")
    assert status(door, "http://images.example.com/") == 400


def test_a_body_over_the_limit_is_refused_declared_or_not(door, network):
    network.serves(b"", Content_Length="6000000")
    assert status(door, "http://images.example.com/dog.jpg") == 413
    network.replies.append(b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nConnection: close\r\n\r\n" + JPEG + b"x" * 5_000_001)
    assert status(door, "http://images.example.com/dog.jpg") == 413


def test_a_body_that_ends_early_is_not_taken(door, network):
    network.serves(JPEG, Content_Length="1000")
    assert status(door, "http://images.example.com/dog.jpg") == 400


@pytest.mark.parametrize(
    "content_type, body", [("text/html", JPEG), ("image/jpeg", b"<html>"), ("image/svg+xml", b"<svg>"), ("image/gif", b"GIF89a")]
)
def test_what_is_no_image_is_refused(door, network, content_type, body):
    network.serves(body, content_type)
    assert status(door, "http://images.example.com/dog.jpg") == 415


def test_a_status_other_than_200_is_not_an_image(door, network):
    network.serves(status="404 Not Found")
    assert status(door, "http://images.example.com/dog.jpg") == 400


def test_a_body_that_comes_drop_by_drop_meets_the_deadline(door, network, monkeypatch, caplog):
    now = iter(range(0, 1000, 2))  # each look at the clock is two seconds later
    monkeypatch.setattr(door.time, "monotonic", lambda: float(next(now)))
    network.serves()
    assert sentence(door, "http://images.example.com/dog.jpg") == "The image could not be fetched from this URL."
    assert "the time is over" in caplog.text and len(network.sent) == 1


def test_the_origin_of_a_local_aws_is_trusted_exactly(monkeypatch, network):
    door = load(monkeypatch, AWS_ENDPOINT_URL=LOCAL)
    Endpoint(door).answers()
    network.serves(content_type="binary/octet-stream")
    assert status(door, f"{LOCAL}/bucket/dog.jpg?X-Amz-Signature=abc") == 200
    assert network.sent[0].startswith(b"GET /bucket/dog.jpg?X-Amz-Signature=abc HTTP/1.1\r\nHost: 127.0.0.1:5000\r\n")
    assert b"Authorization" not in network.sent[0]


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:5001/", "https://127.0.0.1:5000/", "http://localhost:5000/", "http://127.0.0.1/", "http://127.1:5000/"]
)
def test_no_other_origin_is_trusted(monkeypatch, network, url):
    door = load(monkeypatch, AWS_ENDPOINT_URL=LOCAL)
    network.names["localhost"] = ["127.0.0.1"]
    assert status(door, url) == 400
    assert network.connected == []


def test_the_origin_of_s3_goes_before_the_general_one(monkeypatch, network):
    door = load(monkeypatch, AWS_ENDPOINT_URL=LOCAL, AWS_ENDPOINT_URL_S3="https://s3.vpc.example.com:8443")
    network.names["s3.vpc.example.com"] = ["10.0.0.5"]
    Endpoint(door).answers()
    network.serves()
    assert status(door, "https://s3.vpc.example.com:8443/bucket/dog.jpg") == 200
    assert status(door, f"{LOCAL}/bucket/dog.jpg") == 400
    assert network.connected == [("10.0.0.5", 8443)]
