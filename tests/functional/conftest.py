"""One local AWS for all functional tests: a real server process, reached as any client would."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
from botocore.config import Config

from opml.localaws import lifecycle


@dataclass(frozen=True)
class Served:
    """A running local AWS with clients that do not retry, so that a test sees the first answer."""

    local: lifecycle.LocalAws
    folder: Path  # for what functions and handlers leave

    @property
    def bucket(self) -> str:
        """The account's default bucket."""
        return self.local.bucket

    @property
    def role_arn(self) -> str:
        """The account's default role."""
        return self.local.role_arn

    def client(self, name: str, **config):
        """A boto3 client; ``config`` goes to botocore's Config."""
        return boto3.client(
            name, endpoint_url=self.local.endpoint_url, region_name=self.local.region,
            aws_access_key_id=self.local.access_key_id, aws_secret_access_key=self.local.secret_access_key,
            config=Config(retries={"total_max_attempts": 1}, signature_version="s3v4" if name == "s3" else None, **config),
        )  # fmt: skip


@pytest.fixture(scope="session")
def local_aws() -> Iterator[lifecycle.LocalAws]:
    """A server of its own, unknown to other programs."""
    local = lifecycle.start(register=False)
    yield local
    local.stop()


@pytest.fixture(scope="session")
def served(local_aws, tmp_path_factory) -> Served:
    """The server with ready clients."""
    return Served(local_aws, tmp_path_factory.mktemp("served"))
