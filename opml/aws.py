"""The one gate to AWS: ``connect("local")`` or ``connect("aws")``. Nothing else in opml, and no notebook, knows which one it talks to."""

import logging
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from opml.errors import BadInput

if TYPE_CHECKING:
    import sagemaker

    from opml.localaws.lifecycle import LocalAws

PROJECT = "opml"
NAME_LENGTH = 63  # characters that SageMaker allows in a name
TARGETS = ("local", "aws")
BOUNDARY = "OPML_BOUNDARY_ARN"  # environment variable: the permissions boundary that roles must have


@dataclass(frozen=True)
class Aws:
    """A connection: where to work, as whom, and under which names."""

    target: str
    region: str
    account: str
    role_arn: str  # the execution role that jobs and endpoints get
    bucket: str
    run_id: str
    boundary_arn: str = ""  # the permissions boundary of the roles that are made here; none if empty
    _clients: dict = field(default_factory=dict, repr=False, compare=False)

    def client(self, name: str, **options):
        """A boto3 client, made once for each name and set of options. S3 always signs with version 4, also presigned URLs."""
        key = (name, repr(sorted(options.items())))
        if key not in self._clients:
            self._clients[key] = _client(name, self.region, options)
        return self._clients[key]

    @cached_property
    def sagemaker_session(self) -> "sagemaker.Session":
        """The SageMaker SDK's session, with our bucket as its default."""
        import boto3

        os.environ.setdefault("SAGEMAKER_SUPPRESS_V2_WARNING", "1")
        import sagemaker

        return sagemaker.Session(
            boto_session=boto3.Session(region_name=self.region), sagemaker_client=self.client("sagemaker"),
            sagemaker_runtime_client=self.client("sagemaker-runtime"), default_bucket=self.bucket,
        )  # fmt: skip

    def name(self, what: str) -> str:
        """``opml-<run_id>-<what>``: the name of a resource of this run, lower case, at most 63 characters."""
        name = re.sub(r"[^a-z0-9-]+", "-", f"{PROJECT}-{self.run_id}-{what}".lower()).strip("-")
        if len(name) > NAME_LENGTH:
            raise BadInput(
                f"the name {name!r} has {len(name)} characters, AWS allows {NAME_LENGTH}: choose a shorter run_id than {self.run_id!r}"
            )
        return name

    def uri(self, *parts: str) -> str:
        """``s3://<bucket>/opml/<run_id>/<part>/...``: where this run keeps its objects."""
        return "/".join([f"s3://{self.bucket}", PROJECT, self.run_id, *(part.strip("/") for part in parts)])

    @property
    def tags(self) -> list[dict[str, str]]:
        """The tags of everything that this run creates; by them it is found again and torn down."""
        return [{"Key": "opml:project", "Value": PROJECT}, {"Key": "opml:run_id", "Value": self.run_id}]


def connect(target: str = "local", run_id: str = "first") -> Aws:
    """Connect to the local AWS (found or started, and then ended with this process) or to the account of the environment.

    Parameters
    ----------
    target : str
        "local" or "aws".
    run_id : str
        1 to 20 lower-case letters, digits and hyphens: names everything that this run creates.

    Raises
    ------
    BadInput
        The target or the run_id is none, or the environment does not say which account to use.
    LocalAwsError
        The local AWS does not start.
    """
    if target not in TARGETS:
        raise BadInput(f"unknown target {target!r}: choose one of {', '.join(TARGETS)}")
    check_run_id(run_id)
    hush()
    return _local(run_id) if target == "local" else _account(run_id)


def check_run_id(run_id: str) -> None:
    """Raise ``BadInput`` for what cannot name a run."""
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?", run_id):
        raise BadInput(f"run_id must be 1 to 20 lower-case letters, digits and inner hyphens, not {run_id!r}")


def hush() -> None:
    """Keep out of the log what is no news: where settings were looked for, and that a job which has not run has no model."""
    for chatty in ("sagemaker.config", "sagemaker.telemetry", "botocore"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.getLogger("sagemaker.estimator").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("No finished training job found")  # the tuner looks, before there is one


@contextmanager
def world_of_its_own(target: str) -> Iterator[None]:
    """A temporary folder for this process and its children, and for target "local" a local AWS that only they use; gone after the block.

    The children get both from the environment. Each of them carries the server's mark and ends with it, and the folder lies in the
    server's, so that it goes too if this process is killed.
    """
    if target != "local":
        with tempfile.TemporaryDirectory(prefix="opml-") as folder, _temporary_files_in(folder):
            yield
        return
    from opml.localaws import client, lifecycle
    from opml.localaws.settings import OWNED_BY

    local = lifecycle.start(register=False)
    try:
        client.apply(local)
        os.environ[OWNED_BY] = local.server_id
        with _temporary_files_in(local.scratch):
            yield
    finally:
        local.stop()


@contextmanager
def _temporary_files_in(folder: str) -> Iterator[None]:
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    try:
        yield
    finally:
        tempfile.tempdir = None  # looked up again when next asked for
        os.environ.pop("TMPDIR")
        os.environ.update({"TMPDIR": before} if before is not None else {})


def _local(run_id: str) -> Aws:
    import boto3

    from opml.localaws import client, lifecycle

    local = lifecycle.find_or_start()
    if local.caller().endswith(":root"):
        local = _as_operator(local)
    client.apply(local)
    boto3.setup_default_session()  # one made before would keep the credentials that it read then
    client.tune_sdk(local)
    return Aws("local", local.region, local.account, local.role_arn, local.bucket, run_id, os.environ.get(BOUNDARY, ""))


def _as_operator(local: "LocalAws") -> "LocalAws":
    """From the account's owner to a session of the operator, with our execution role. Children of this process inherit both."""
    from opml import principals
    from opml.operators import Site

    site = Site(local.region, local.account, local.bucket)
    principals.set_up(local.client("iam"), site)
    keys = principals.operator_session(local.client("sts"), site)
    os.environ[BOUNDARY] = site.boundary_arn
    return replace(
        local, access_key_id=keys["AccessKeyId"], secret_access_key=keys["SecretAccessKey"], session_token=keys["SessionToken"],
        role_arn=site.execution_role_arn,
    )  # fmt: skip


def _account(run_id: str) -> Aws:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
    if endpoint:
        raise BadInput(
            f"AWS_ENDPOINT_URL is {endpoint}, so target 'aws' would not reach AWS. In a new shell, or after: unset AWS_ENDPOINT_URL"
            " AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN OPML_ROLE_ARN OPML_BOUNDARY_ARN OPML_BUCKET"
        )
    region = boto3.Session().region_name
    if not region:
        raise BadInput("no AWS region is configured. Run: export AWS_DEFAULT_REGION=us-east-1")
    try:
        account = _client("sts", region, {}).get_caller_identity()["Account"]
        bucket = os.environ.get("OPML_BUCKET") or _default_bucket(region, account)
    except (BotoCoreError, ClientError) as error:
        raise BadInput(f"AWS does not accept the credentials of this environment: {error}. Try: aws sts get-caller-identity") from error
    return Aws("aws", region, account, _execution_role(), bucket, run_id, os.environ.get(BOUNDARY, ""))


def _execution_role() -> str:
    if role := os.environ.get("OPML_ROLE_ARN"):
        return role
    import sagemaker

    try:
        return sagemaker.get_execution_role()
    except ValueError as error:
        raise BadInput(f"{error}. Outside SageMaker name the role: export OPML_ROLE_ARN=arn:aws:iam::ACCOUNT:role/NAME") from error


def _default_bucket(region: str, account: str) -> str:
    """The account's default SageMaker bucket, made if it is missing."""
    from botocore.exceptions import ClientError

    bucket, s3 = f"sagemaker-{region}-{account}", _client("s3", region, {})
    try:
        s3.head_bucket(Bucket=bucket, ExpectedBucketOwner=account)
    except ClientError as error:
        if error.response["Error"]["Code"] != "404":
            raise
        place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        s3.create_bucket(Bucket=bucket, **place)
    return bucket


def _client(name: str, region: str, options: dict):
    import boto3
    from botocore.config import Config

    if name == "s3":
        config = Config(signature_version="s3v4")
        options = {**options, "config": config.merge(options["config"]) if "config" in options else config}
    return boto3.Session(region_name=region).client(name, **options)
