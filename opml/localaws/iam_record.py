"""A record of all calls, in CloudTrail's terms: who asked for what, when, and whether it was allowed. Kept in memory, the newest 20,000."""

import json
import threading
import uuid
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime

from moto.iam.models import iam_backends

from opml.localaws.iam_principals import Principal
from opml.localaws.settings import settings

KEPT = 20_000  # calls
READS = ("Get", "List", "Describe", "Head", "Lookup", "Simulate", "Batch", "Search", "Filter")
DATA = ("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket", "lambda:InvokeFunction", "sagemaker:InvokeEndpoint")


@dataclass(frozen=True)
class Call:
    """One call. ``resources`` are ARNs; ``error`` is AWS's code where it was refused; ``by`` the service that acted for the principal."""

    principal: Principal
    action: str
    operation: str
    resources: tuple[str, ...]
    region: str
    access_key_id: str = ""
    error: str = ""
    message: str = ""
    by: str = ""
    time: datetime = field(default_factory=lambda: datetime.now(UTC))
    event_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def service(self) -> str:
        """IAM's prefix of the service."""
        return self.action.partition(":")[0]

    @property
    def read_only(self) -> bool:
        """Whether the operation only reads, judged by its name."""
        return self.operation.startswith(READS)

    def event(self) -> dict:
        """As LookupEvents lists it."""
        return {
            "EventId": self.event_id, "EventName": self.operation, "EventTime": self.time, "EventSource": f"{self.service}.amazonaws.com",
            "Username": self.principal.name, "ReadOnly": str(self.read_only).lower(), "AccessKeyId": self.access_key_id or None,
            "Resources": [{"ResourceName": arn, "ResourceType": _resource_type(arn)} for arn in self.resources if arn != "*"],
            "CloudTrailEvent": json.dumps(self._record()),
        }  # fmt: skip

    def _record(self) -> dict:
        """CloudTrail's own record (user guide, "CloudTrail record contents"), as far as it is known here."""
        who = {
            "type": self.principal.kind, "principalId": self.principal.user_id, "arn": self.principal.arn,
            "accountId": settings.account, "accessKeyId": self.access_key_id,
        }  # fmt: skip
        if self.principal.kind == "AssumedRole":
            issuer = {"type": "Role", "arn": self.principal.entity_arn, "accountId": settings.account}
            who["sessionContext"] = {"sessionIssuer": issuer}
        if self.by:
            who["invokedBy"] = self.by
        data = self.action in DATA
        record = {
            "eventVersion": "1.10", "userIdentity": who, "eventTime": f"{self.time:%Y-%m-%dT%H:%M:%SZ}", "eventID": self.event_id,
            "eventSource": f"{self.service}.amazonaws.com", "eventName": self.operation, "awsRegion": self.region,
            "sourceIPAddress": self.by or "127.0.0.1", "readOnly": self.read_only, "eventType": "AwsApiCall", "managementEvent": not data,
            "eventCategory": "Data" if data else "Management", "recipientAccountId": settings.account,
            "resources": [{"ARN": arn, "accountId": settings.account} for arn in self.resources if arn != "*"],
        }  # fmt: skip
        return {**record, "errorCode": self.error, "errorMessage": self.message} if self.error else record


CALLS: deque[Call] = deque(maxlen=KEPT)
_last: dict[tuple[str, str], Call] = {}  # (user or role, service) -> its last call, however long ago
_lock = threading.Lock()


def add(call: Call) -> None:
    """Remember a call; a role's ``RoleLastUsed`` follows from it."""
    with _lock:
        CALLS.append(call)
        _last[call.principal.entity_arn, call.service] = call
    if call.principal.kind == "AssumedRole":
        role_id = call.principal.user_id.partition(":")[0]
        if role := iam_backends[settings.account]["aws"].roles.get(role_id):
            role.last_used, role.last_used_region = call.time.replace(tzinfo=None), call.region


def newest_first() -> list[Call]:
    """All calls that are kept."""
    with _lock:
        return list(CALLS)[::-1]


def last_by_service(entity_arn: str) -> dict[str, Call]:
    """The last call of a user or role to each service."""
    with _lock:
        return {service: call for (arn, service), call in _last.items() if arn == entity_arn}


TYPES = {"lambda": "Lambda", "sagemaker": "SageMaker", "iam": "IAM", "logs": "Logs", "ec2": "EC2", "s3": "S3", "ssm": "SSM"}


def _resource_type(arn: str) -> str:
    """``AWS::S3::Object`` and its like, from the ARN."""
    if arn.count(":") < 5:
        return "AWS::Unknown"  # a request may name what is no ARN
    _, _, service, _, _, rest = arn.split(":", 5)
    if service == "s3":
        return "AWS::S3::Object" if "/" in rest else "AWS::S3::Bucket"
    kind = "".join(part.capitalize() for part in rest.replace(":", "/").split("/")[0].split("-"))
    return f"AWS::{TYPES.get(service, service.capitalize())}::{kind}"
