"""The Lambda function in front of the endpoint: package it, give it a role that may only call that endpoint, ask it, read its answer."""

from __future__ import annotations

import contextlib
import io
import json
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from opml import security
from opml.errors import BadInput, NotFound, OpmlError
from opml.staging import REPOSITORY

if TYPE_CHECKING:
    from opml.aws import Aws

RUNTIME = "python3.12"
HANDLER = "lambda_function.lambda_handler"
LOG_DAYS = 14
ENDPOINT_VARIABLE = "ENDPOINT_NAME"  # how the function learns which endpoint it calls


def package(source: str | Path = "lambda_function.py") -> bytes:
    """A deployment package: a zip with one file. The same source gives the same bytes, so an unchanged function is seen as such.

    Parameters
    ----------
    source : path
        The function's file; a relative path is taken from the top of the repository.

    Raises
    ------
    BadInput
        There is no such file.
    """
    path = REPOSITORY / source  # an absolute source replaces the left side
    if not path.is_file():
        raise BadInput(f"there is no function file {path.name!r} at {path.parent}: name the file with lambda_handler in it")
    return _zip(path.name, path.read_bytes())


def _zip(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))  # the first date a zip knows: no clock in the bytes
        entry.external_attr = 0o644 << 16  # Lambda must be able to read it
        archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def ensure_role(aws: Aws, endpoint_name: str, function_name: str) -> str:
    """A role that may invoke this endpoint and write this function's log streams, and nothing else; ready to be used.

    The log group is made here, with a retention of 14 days: the function could only make one that keeps its logs for ever.

    Returns
    -------
    str
        The role's ARN.
    """
    _ensure_log_group(aws, function_name)
    trust = security.trust_policy("lambda.amazonaws.com", aws.account)
    policy = security.lambda_policy(aws, endpoint_name, function_name)
    role_arn = security.ensure_role(aws, f"{function_name}-role"[:64], trust, policy)
    _wait_until_usable(aws, role_arn, function_name)
    return role_arn


def _ensure_log_group(aws: Aws, function_name: str) -> None:
    logs, group = aws.client("logs"), f"/aws/lambda/{function_name}"
    with contextlib.suppress(logs.exceptions.ResourceAlreadyExistsException):  # what matters is set next
        logs.create_log_group(logGroupName=group, tags=_tags(aws))
    logs.put_retention_policy(logGroupName=group, retentionInDays=LOG_DAYS)


def _wait_until_usable(aws: Aws, role_arn: str, function_name: str, seconds: float = 60) -> None:
    """IAM takes some seconds to tell Lambda about a new role, and only CreateFunction says whether it has: try with an empty one."""
    client, deadline, probe = aws.client("lambda"), time.monotonic() + seconds, f"{function_name[:58]}-probe"
    request = {"FunctionName": probe, "Runtime": RUNTIME, "Handler": HANDLER, "Role": role_arn, "Tags": _tags(aws)}
    while True:
        try:
            client.create_function(**request, Code={"ZipFile": _zip("lambda_function.py", b"")})
            break
        except client.exceptions.ResourceConflictException:
            break  # an interrupted run left the probe: its role worked
        except client.exceptions.InvalidParameterValueException as error:
            if "role" not in str(error).lower() or time.monotonic() > deadline:
                raise OpmlError(f"Lambda cannot use role {role_arn}: {error}") from error
            time.sleep(1)
    client.get_waiter("function_active_v2").wait(FunctionName=probe, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    client.delete_function(FunctionName=probe)


def _tags(aws: Aws) -> dict[str, str]:
    """The run's tags as Lambda and CloudWatch Logs take them."""
    return {tag["Key"]: tag["Value"] for tag in aws.tags}


def create_request(aws: Aws, function_name: str, role_arn: str, endpoint_name: str, *, memory_mb: int = 512, timeout_s: int = 30) -> dict:
    """Arguments of ``create_function``.

    Parameters
    ----------
    memory_mb : int
        128 to 10240. CPU comes with memory (a whole one at 1769 MB): at 128 MB importing boto3 alone takes seconds.
    timeout_s : int
        1 to 900 seconds; the container itself must answer within 60.

    Raises
    ------
    BadInput
        Memory or time-out outside Lambda's limits.
    """
    if not 128 <= memory_mb <= 10240:
        raise BadInput(f"memory_mb must be 128 to 10240, not {memory_mb}")
    if not 1 <= timeout_s <= 900:
        raise BadInput(f"timeout_s must be 1 to 900 seconds, not {timeout_s}")
    return {
        "FunctionName": function_name,
        "Description": f"dog breeds of an image, from endpoint {endpoint_name}",
        "Runtime": RUNTIME,
        "Handler": HANDLER,
        "Role": role_arn,
        "Code": {"ZipFile": package()},
        "MemorySize": memory_mb,
        "Timeout": timeout_s,
        "Environment": _environment(endpoint_name, timeout_s),
        "Tags": _tags(aws),
        "Publish": False,
    }


def _environment(endpoint_name: str, timeout_s: int) -> dict:
    """The handler's settings; it cannot ask for its own time-out before its first call, so it is told."""
    return {"Variables": {ENDPOINT_VARIABLE: endpoint_name, "FUNCTION_TIMEOUT": str(timeout_s)}}


def event(url: str) -> dict:
    """The event the function takes: where the image lies."""
    return {"url": url}


def answer(response: dict) -> dict:
    """What the handler returned, from ``invoke``'s response; read once.

    Raises
    ------
    OpmlError
        The function itself failed: an exception, a time-out, no memory. (Invoke then still answers 200.)
    """
    payload = json.loads(response["Payload"].read() or b"null")
    if "FunctionError" in response:
        said = payload or {}
        raise OpmlError(
            f"the function failed ({said.get('errorType', response['FunctionError'])}): {said.get('errorMessage', 'no message')}"
        )
    return payload


def presigned_url(aws: Aws, key_or_uri: str, seconds: int = 300) -> str:
    """A link to one object in S3 that works without credentials until it expires.

    Parameters
    ----------
    key_or_uri : str
        An ``s3://`` URI, or a key in the run's bucket.
    seconds : int
        How long it works; whoever has the link can read the object.

    Raises
    ------
    NotFound
        There is no such object.
    """
    bucket, _, key = key_or_uri[5:].partition("/") if key_or_uri.startswith("s3://") else (aws.bucket, "", key_or_uri)
    s3 = aws.client("s3")
    try:
        s3.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("404", "NoSuchKey", "NoSuchBucket"):
            raise
        raise NotFound(f"there is no object s3://{bucket}/{key}: upload it first") from error
    return s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=seconds)


def ensure_function(aws: Aws, endpoint_name: str, what: str = "function") -> str:
    """The name of this run's function in front of an endpoint: found, else created.

    One that calls another endpoint is turned to this one.
    """
    name, client = aws.name(what), aws.client("lambda")
    try:
        found = client.get_function_configuration(FunctionName=name)
    except client.exceptions.ResourceNotFoundException:
        print(f"no function {name} yet: creating it", flush=True)
        client.create_function(**create_request(aws, name, ensure_role(aws, endpoint_name, name), endpoint_name))
        client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
        return name
    if found.get("Environment", {}).get("Variables", {}).get(ENDPOINT_VARIABLE) != endpoint_name:
        ensure_role(aws, endpoint_name, name)
        client.update_function_configuration(FunctionName=name, Environment=_environment(endpoint_name, found["Timeout"]))
        client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    return name
