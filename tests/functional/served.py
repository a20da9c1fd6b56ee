"""What the tests of endpoints, functions and the door share: clients of the running local AWS."""

import contextlib
import json
import time
from dataclasses import dataclass
from pathlib import Path

import boto3
from botocore.config import Config

from opml.localaws.lifecycle import LocalAws

FUNCTION = [
    {"Effect": "Allow", "Action": "sagemaker:InvokeEndpoint", "Resource": "arn:aws:sagemaker:*:*:endpoint/*"},
    {
        "Effect": "Allow",
        "Action": ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"],
        "Resource": "arn:aws:logs:*:*:log-group:/aws/lambda/*",
    },
]


def make_role(iam, name: str, service: str, statements: list[dict]) -> str:
    """The ARN of a role that a service may assume; made if it is not there."""
    trust = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    with contextlib.suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}))
    if statements:
        iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": statements}))
    return iam.get_role(RoleName=name)["Role"]["Arn"]


def until(condition, seconds: float = 20.0):
    """What ``condition()`` returns as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)
    return found


@dataclass(frozen=True)
class Served:
    """A running local AWS with clients that do not retry, so that a test sees the first answer."""

    local: LocalAws
    folder: Path  # for what functions and handlers leave

    @property
    def bucket(self) -> str:
        """The account's default bucket."""
        return self.local.bucket

    @property
    def role_arn(self) -> str:
        """The account's default role."""
        return self.local.role_arn

    @property
    def function_role_arn(self) -> str:
        """A role that Lambda may assume, which may call every endpoint and write every function's log."""
        return make_role(self.client("iam"), "tests-function", "lambda.amazonaws.com", FUNCTION)

    def client(self, name: str, **config):
        """A boto3 client; ``config`` goes to botocore's Config."""
        return boto3.client(
            name, endpoint_url=self.local.endpoint_url, region_name=self.local.region,
            aws_access_key_id=self.local.access_key_id, aws_secret_access_key=self.local.secret_access_key,
            config=Config(retries={"total_max_attempts": 1}, signature_version="s3v4" if name == "s3" else None, **config),
        )  # fmt: skip
