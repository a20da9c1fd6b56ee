"""Fixtures of the control rooms: AWS state inside the process (moto), so no socket is opened."""

import pytest
from moto import mock_aws
from rooms_fake import FakeAws


@pytest.fixture
def aws(monkeypatch):
    """An empty account with the bucket and the role that ``opml.aws.connect`` would give."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws(config={"iam": {"load_aws_managed_policies": True}}):
        fake = FakeAws()
        fake.client("s3").create_bucket(Bucket=fake.bucket)
        yield fake
