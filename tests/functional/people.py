"""Users and roles with narrow policies, and boto3 clients in their names."""

import itertools
import json
from dataclasses import dataclass

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from served import make_role

_numbers = itertools.count(1)


def allow(actions, resources="*", **more) -> dict:
    return {"Effect": "Allow", "Action": actions, "Resource": resources, **more}


def deny(actions, resources="*", **more) -> dict:
    return {**allow(actions, resources, **more), "Effect": "Deny"}


def document(*statements) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


@dataclass(frozen=True)
class Person:
    """Somebody with credentials."""

    local: object
    arn: str
    keys: tuple

    def client(self, name: str):
        config = Config(retries={"total_max_attempts": 1}, signature_version="s3v4" if name == "s3" else None)
        session = boto3.Session(*self.keys, region_name=self.local.region)
        return session.client(name, endpoint_url=self.local.endpoint_url, config=config)


class People:
    """Makes users, roles and sessions of them, as the owner."""

    def __init__(self, local):
        self.local, self.iam, self.sts = local, local.client("iam"), local.client("sts")

    def user(self, *statements) -> Person:
        name = f"user-{next(_numbers)}"
        arn = self.iam.create_user(UserName=name)["User"]["Arn"]
        if statements:
            self.iam.put_user_policy(UserName=name, PolicyName="own", PolicyDocument=document(*statements))
        key = self.iam.create_access_key(UserName=name)["AccessKey"]
        return Person(self.local, arn, (key["AccessKeyId"], key["SecretAccessKey"]))

    def role(self, service: str, *statements) -> str:
        return make_role(self.iam, f"role-{next(_numbers)}", f"{service}.amazonaws.com", list(statements))

    def session(self, role_arn: str, **more) -> Person:
        answer = self.sts.assume_role(RoleArn=role_arn, RoleSessionName="test", **more)
        keys = answer["Credentials"]
        arn = answer["AssumedRoleUser"]["Arn"]
        return Person(self.local, arn, (keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"]))


def refused(call, **arguments) -> tuple[str, str, int]:
    """(code, message, HTTP status) of a call that must fail."""
    try:
        call(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"], error.response["Error"]["Message"], error.response["ResponseMetadata"]["HTTPStatusCode"]
    raise AssertionError("the call was not refused")
