"""moto's state, reached in process: objects in S3, log streams, metrics, credentials of a role. No HTTP, no copy.

Inside ``iam_acting.acting_as(role)`` the functions on S3 raise ``iam_acting.AccessDenied`` where the role lacks the permission.
"""

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from moto.cloudwatch.models import MetricAggregatedDatum, cloudwatch_backends
from moto.core.utils import utcnow
from moto.iam.models import iam_backends
from moto.logs.models import logs_backends
from moto.s3.exceptions import MissingBucket
from moto.s3.models import s3_backends
from moto.sts.models import sts_backends

from opml.localaws import iam_acting
from opml.localaws.settings import settings


class NoSuchObject(LookupError):
    """The S3 URI names no object, or no bucket."""


def split_uri(uri: str) -> tuple[str, str]:
    """``s3://bucket/key`` as (bucket, key)."""
    if not uri.startswith("s3://"):
        raise NoSuchObject(f"{uri!r} is not an s3:// URI")
    bucket, _, key = uri[5:].partition("/")
    return bucket, key


def _s3():
    return s3_backends[settings.account]["aws"]


def get_object(uri: str) -> bytes:
    """The bytes of one object."""
    bucket, key = split_uri(uri)
    iam_acting.check("s3:GetObject", f"arn:aws:s3:::{bucket}/{key}")
    while (found := _find(bucket, key)) is not None:
        try:
            return found.value
        except ValueError:  # moto closes what is overwritten, even under a reader, and then puts the new object in its place
            if not found._value_buffer.closed:
                raise
    raise NoSuchObject(uri)


def _find(bucket: str, key: str):
    try:
        return _s3().get_object(bucket, key)
    except MissingBucket:
        return None


def list_objects(uri: str) -> list[str]:
    """The keys of all objects that start with the URI's key, sorted; none if the bucket is missing."""
    bucket, prefix = split_uri(uri)
    iam_acting.check("s3:ListBucket", f"arn:aws:s3:::{bucket}", s3__prefix=prefix)
    try:
        keys = _s3().get_bucket(bucket).keys
    except MissingBucket:
        return []
    return sorted(name for name, _ in keys.items() if name.startswith(prefix))


def put_object(uri: str, body: bytes) -> None:
    """Write one object; the bucket must exist."""
    bucket, key = split_uri(uri)
    iam_acting.check("s3:PutObject", f"arn:aws:s3:::{bucket}/{key}")
    try:
        _s3().put_object(bucket, key, body)
    except MissingBucket:
        raise NoSuchObject(f"s3://{bucket}") from None


class LogStream:
    """One CloudWatch Logs stream, made on first use; safe to write from several threads.

    ``writer`` (role, session name, service) is in whose name it is written, else the role that acts in this thread: without the permission
    nothing is written, as on AWS.
    """

    def __init__(self, group: str, stream: str, writer: tuple[str, str, str] | None = None):
        self.group, self.stream = group, stream
        writer = writer or iam_acting.current()
        self._silent = writer is not None and not _may_log(group, stream, writer)
        if self._silent:
            return
        self._backend = logs_backends[settings.account][settings.region]
        self._lock = threading.Lock()
        self._backend.ensure_log_group(group)
        if stream not in self._backend.groups[group].streams:
            self._backend.create_log_stream(group, stream)

    def write(self, lines: Iterable[str]) -> None:
        """Append lines with the present time."""
        if self._silent:
            return
        with self._lock:
            now = int(time.time() * 1000)
            events = [{"timestamp": now, "message": line} for line in lines]
            if events:
                self._backend.put_log_events(self.group, self.stream, events)


def _may_log(group: str, stream: str, writer: tuple[str, str, str]) -> bool:
    actions = ["logs:CreateLogStream", "logs:PutLogEvents"]
    if group not in logs_backends[settings.account][settings.region].groups:
        actions.insert(0, "logs:CreateLogGroup")
    try:
        for action in actions:
            part = "" if action == "logs:CreateLogGroup" else stream
            resource = f"arn:aws:logs:{settings.region}:{settings.account}:log-group:{group}:log-stream:{part}"
            iam_acting.check_role(*writer, action, resource)
    except iam_acting.AccessDenied as error:
        print(f"no log: {error}")  # goes to the server's log
        return False
    return True


def put_metric(namespace: str, name: str, value: float, dimensions: dict[str, str], unit: str = "None") -> None:
    """One CloudWatch datum at the present time."""
    datum = {
        "MetricName": name, "Value": float(value), "Unit": unit, "Timestamp": utcnow(),
        "Dimensions": [{"Name": key, "Value": text} for key, text in dimensions.items()],
    }  # fmt: skip
    cloudwatch_backends[settings.account][settings.region].put_metric_data(namespace, [datum])


@dataclass(frozen=True)
class Key:
    """A pair of credentials that this account has handed out; ``token`` only for temporary ones."""

    secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    expires: datetime | None = None


def find_key(access_key_id: str) -> Key | None:
    """The owner's key, an active key of an IAM user, or a session of an assumed role; None for any other."""
    if access_key_id == settings.owner_access_key_id:
        return Key(settings.owner_secret_access_key)
    for user in list(iam_backends[settings.account]["aws"].users.values()):
        for key in list(user.access_keys):
            if key.access_key_id == access_key_id and key.status == "Active":
                return Key(key.secret_access_key)
    for session in list(sts_backends[settings.account]["aws"].assumed_roles):
        if session.access_key_id == access_key_id:
            return Key(session.secret_access_key, session.session_token, session.expiration)
    return None


TIMES = ("Microseconds", "Milliseconds", "Seconds")  # units of metrics that people ask percentiles of
_current: dict[tuple, MetricAggregatedDatum] = {}  # the datum that is still being added to, for each metric
_current_lock = threading.Lock()


def count_metric(namespace: str, name: str, value: float, dimensions: dict[str, str], unit: str = "None") -> None:
    """Like `put_metric`, for what comes often: the values of one second share one datum, since moto scans all data at each read."""
    key = (namespace, name, *sorted(dimensions.items()))
    moment = utcnow().replace(microsecond=0)
    with _current_lock:
        datum = _current.get(key)
        if datum is not None and datum.timestamp == moment:
            datum.min, datum.max = min(datum.min, value), max(datum.max, value)
            datum.sample_count, datum.sum = datum.sample_count + 1, datum.sum + value
            if unit in TIMES:
                datum.samples.append(value)
            return
        pairs = [{"Name": label, "Value": text} for label, text in dimensions.items()]
        _current[key] = datum = MetricAggregatedDatum(namespace, name, value, value, 1.0, float(value), pairs, moment, unit)
        datum.samples = [value] if unit in TIMES else []  # for percentiles
        cloudwatch_backends[settings.account][settings.region].metric_data.append(datum)


def role_credentials(role_arn: str, session_name: str) -> dict[str, str]:
    """Temporary credentials of a role, as environment variables; ``LookupError`` if the role does not exist."""
    roles = iam_backends[settings.account]["aws"].roles.values()
    if role_arn not in {role.arn for role in roles}:
        raise LookupError(f"role {role_arn} does not exist")
    session = sts_backends[settings.account]["aws"].assume_role(settings.region, session_name, role_arn, None, 43200, None)
    return {
        "AWS_ACCESS_KEY_ID": session.access_key_id,
        "AWS_SECRET_ACCESS_KEY": session.secret_access_key,
        "AWS_SESSION_TOKEN": session.session_token,
    }


def now() -> datetime:
    """The time as moto stores it."""
    return utcnow()
