"""Fixtures of the control rooms: AWS state inside the process (moto), so no socket is opened."""

import os
from unittest import mock

import pytest
from moto import mock_aws

from opml.aws import Aws

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}
ELSEWHERE = ("AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_SESSION_TOKEN")


@pytest.fixture(scope="session")
def clients():
    """The boto3 clients of all tests: to read a service's model takes longer than most tests."""
    return {}


@pytest.fixture
def managed_policies():
    """Whether the account knows AWS's managed policies (half a second); a test module overrides it."""
    return False


@pytest.fixture
def aws(clients, managed_policies):
    """An empty account with the bucket that ``opml.aws.connect`` would give."""
    kept = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
    with (
        mock.patch.dict(os.environ, {**kept, **CREDENTIALS}, clear=True),
        mock_aws(config={"iam": {"load_aws_managed_policies": managed_policies}}),
    ):
        account = Aws("local", "us-east-1", "123456789012", "arn:aws:iam::123456789012:role/opml-local", "opml-local", "t", clients)
        account.client("s3").create_bucket(Bucket=account.bucket)
        yield account
