"""What opml.aws decides before any request."""

import logging
from dataclasses import replace
from types import SimpleNamespace

import boto3
import pytest
from botocore.exceptions import ClientError

from opml import aws
from opml.errors import BadInput, LocalAwsError
from opml.localaws import client, sdk
from opml.localaws.lifecycle import LocalAws

LOCAL = LocalAws("http://127.0.0.1:1", "AKIA", "secret", "us-east-1", "123456789012", "arn:role", "the-bucket")


def connection(run_id="first"):
    return aws.Aws("local", "us-east-1", "123456789012", "arn:role", "the-bucket", run_id)


def test_names_uris_and_tags_carry_the_run_id():
    one = connection("run-7")
    assert one.name("Train_Job") == "opml-run-7-train-job"
    assert one.uri("data", "train/") == "s3://the-bucket/opml/run-7/data/train"
    assert {"Key": "opml:run_id", "Value": "run-7"} in one.tags


def test_a_name_too_long_for_aws_is_refused():
    with pytest.raises(BadInput, match="AWS allows 63"):
        connection().name("x" * 60)


@pytest.mark.parametrize("run_id", ["", "Upper", "under_score", "x" * 21, "-a", "a-", "ü", "a\n"])
def test_a_bad_run_id_is_refused_before_anything_starts(run_id):
    with pytest.raises(BadInput, match="run_id"):
        aws.connect("local", run_id)


def test_an_unknown_target_is_refused():
    with pytest.raises(BadInput, match="local, aws"):
        aws.connect("moon")


def test_aws_is_refused_while_the_environment_points_to_the_local_one(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(BadInput, match="unset AWS_ENDPOINT_URL"):
        aws.connect("aws")


def test_settings_that_would_lead_elsewhere_are_taken_away():
    environ = {"AWS_SESSION_TOKEN": "t", "AWS_PROFILE": "work", "AWS_ENDPOINT_URL_S3": "https://x", "NO_PROXY": "corp", "PATH": "p"}
    client.apply(LOCAL, environ)
    assert not {"AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT_URL_S3"} & set(environ)
    assert environ["AWS_ENDPOINT_URL"] == LOCAL.endpoint_url and environ["PATH"] == "p"
    assert environ["no_proxy"] == environ["NO_PROXY"] == "corp,127.0.0.1,localhost"


def test_a_session_of_the_local_aws_that_is_over_is_one_sentence_unless_the_server_is_registered(monkeypatch):
    class Sts:
        def get_caller_identity(self):
            raise ClientError({"Error": {"Code": "ExpiredToken"}}, "GetCallerIdentity")

    monkeypatch.setattr(LocalAws, "client", lambda self, service: Sts())
    with pytest.raises(LocalAwsError, match="over after 12 hours: restart the notebook's kernel"):
        LOCAL.answers()
    assert replace(LOCAL, pid=1).answers() is False  # the state file has the owner's credentials


def test_a_session_token_goes_into_the_environment_and_none_takes_it_away():
    environ = {}
    client.apply(replace(LOCAL, session_token="t"), environ)
    assert environ["AWS_SESSION_TOKEN"] == "t"
    client.apply(LOCAL, environ)
    assert "AWS_SESSION_TOKEN" not in environ


def test_the_secret_is_not_in_the_text_of_a_connection():
    assert "secret" not in repr(LOCAL).replace("secret_access_key", "")


def test_a_scaled_clock_runs_faster_and_is_otherwise_time():
    import time

    clock = sdk.scaled_clock(1000.0)
    before = clock.time()
    clock.sleep(5)  # 5 ms
    assert clock.time() - before >= 5 and clock.gmtime is time.gmtime


def tune_nothing():
    sdk.tune(SimpleNamespace(Session=SimpleNamespace(get_caller_identity_arn=None)), SimpleNamespace(), "http://127.0.0.1:1")


def test_no_line_tells_of_the_local_address_for_each_client(caplog, monkeypatch):
    tune_nothing()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with caplog.at_level("INFO", "botocore"):
        boto3.client("s3", "us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
        logging.getLogger("botocore.configprovider").info("something else")
    assert [record.getMessage() for record in caplog.records if record.name == "botocore.configprovider"] == ["something else"]


def test_the_sdk_does_not_say_that_it_collects_telemetry_which_it_does_not_send_from_here(caplog):
    tune_nothing()
    logger = logging.getLogger("sagemaker.telemetry.telemetry_logging")
    with caplog.at_level("INFO", logger.name):
        logger.info("SageMaker Python SDK will collect telemetry to help us")
        logger.info("something else")
    assert caplog.messages == ["something else"]
