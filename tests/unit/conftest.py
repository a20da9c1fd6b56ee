"""Fixtures of the control rooms: AWS state inside the process (moto), so no socket is opened."""

import pytest
from moto import mock_aws
from rooms_fake import FakeAws


@pytest.fixture
def managed_policies():
    """Whether the account knows AWS's managed policies (half a second); a test module overrides it."""
    return False


@pytest.fixture
def aws(monkeypatch, managed_policies):
    """An empty account with the bucket that ``opml.aws.connect`` would give."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws(config={"iam": {"load_aws_managed_policies": managed_policies}}):
        fake = FakeAws()
        fake.client("s3").create_bucket(Bucket=fake.bucket)
        yield fake
