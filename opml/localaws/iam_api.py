"""IAM's operations that moto has not: the policy simulator and "service last accessed"; CloudTrail's LookupEvents; who calls, by STS."""

import itertools
import json
import re
import uuid
from datetime import UTC, datetime

from moto.cloudtrail import urls as cloudtrail_urls
from moto.cloudtrail.responses import CloudTrailResponse
from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult
from moto.iam import urls
from moto.iam.responses import IamResponse
from moto.sts import urls as sts_urls
from moto.sts.responses import TokenResponse

from opml.localaws import iam_record, iam_shared
from opml.localaws.iam_policy import IDENTITY, Context, Grants, as_list, authorize, evaluate, naming, parse
from opml.localaws.iam_principals import Principal, of_entity, of_key
from opml.localaws.settings import settings

PAGE = 50  # events; LookupEvents gives no more at once
SERVICES = {
    "s3": "Amazon S3", "sagemaker": "Amazon SageMaker", "lambda": "AWS Lambda", "logs": "Amazon CloudWatch Logs", "ec2": "Amazon EC2",
    "cloudwatch": "Amazon CloudWatch", "iam": "AWS Identity and Access Management", "sts": "AWS Security Token Service",
    "ecr": "Amazon Elastic Container Registry", "ssm": "AWS Systems Manager", "application-autoscaling": "AWS Application Auto Scaling",
}  # fmt: skip
ATTRIBUTES = ("EventId", "EventName", "ReadOnly", "Username", "EventSource", "AccessKeyId")
MISSING = re.compile(r"(Role|User|Group) (\S+) not found")  # moto's words
_jobs: dict[str, tuple[str, datetime]] = {}  # GenerateServiceLastAccessedDetails: id -> (entity, when)


class NoSuchEntity(ServiceException):
    """IAM's error."""

    code = "NoSuchEntity"


class InvalidNextToken(ServiceException):
    """CloudTrail's error."""

    code = "InvalidNextTokenException"


class InvalidInput(ServiceException):
    """IAM's error."""

    code = "InvalidInput"


class Iam(IamResponse):
    """moto's IAM with questions about permissions answered, and AWS's words for what is not there."""

    def serialized(self, action_result: ActionResult):
        """The answer; moto says "Role x not found", which people's code does not look for."""
        fault = action_result.result
        found = MISSING.fullmatch(getattr(fault, "message", "") or "") if isinstance(fault, ServiceException) else None
        if found:
            action_result = ActionResult(NoSuchEntity(f"The {found[1].lower()} with name {found[2]} cannot be found."))
        return super().serialized(action_result)

    # ---- the simulator ----------------------------------------------------------------------------------------------------------

    def simulate_principal_policy(self) -> ActionResult:
        """Judge actions by the policies of a user or role, and by further ones."""
        principal = _entity(self._get_param("PolicySourceArn"))
        return self._simulate(principal.grants, iam_shared.of_principal(principal), {"AWS": principal.identities})

    def simulate_custom_policy(self) -> ActionResult:
        """Judge actions by the given policies alone."""
        return self._simulate(Grants(), {}, {"AWS": set(as_list(self._get_param("CallerArn")))})

    def _simulate(self, grants: Grants, context: Context, caller: dict[str, set[str]]) -> ActionResult:
        grants = Grants(
            grants.identity + self._documents("PolicyInputList"), self._documents("PermissionsBoundaryPolicyInputList") or grants.boundary
        )
        resources = self._get_param("ResourceArns") or ["*"]
        keys = {
            entry["ContextKeyName"].lower(): list(entry.get("ContextKeyValues") or []) for entry in self._get_param("ContextEntries") or []
        }
        context |= {name: values[0] if len(values) == 1 else values for name, values in keys.items()}
        policy = self._get_param("ResourcePolicy")
        shared = [naming(_document(policy), caller)] if policy else []
        pairs = itertools.product(self._get_param("ActionNames"), resources)
        results = [_result(grants, action, resource, context, shared) for action, resource in pairs]
        return ActionResult({"EvaluationResults": results, "IsTruncated": False})

    def _documents(self, member: str) -> tuple[dict, ...]:
        return tuple(_document(text) for text in self._get_param(member) or [])

    # ---- service last accessed --------------------------------------------------------------------------------------------------

    def generate_service_last_accessed_details(self) -> ActionResult:
        """Answers with an id; the report is ready at once."""
        job, arn = str(uuid.uuid4()), self._get_param("Arn")
        _jobs[job] = (_entity(arn).entity_arn, datetime.now(UTC))
        return ActionResult({"JobId": job})

    def get_service_last_accessed_details(self) -> ActionResult:
        """Each service that the entity's policies allow, and when it last called it here."""
        job = self._get_param("JobId")
        if job not in _jobs:
            raise NoSuchEntity(f"The report for job id {job} cannot be found.")
        arn, moment = _jobs[job]
        last = iam_record.last_by_service(arn)
        names = sorted(_allowed_services(_entity(arn)) | set(last))
        return ActionResult({
            "JobStatus": "COMPLETED", "JobType": "SERVICE_LEVEL", "JobCreationDate": moment, "JobCompletionDate": moment,
            "ServicesLastAccessed": [_accessed(name, last.get(name)) for name in names], "IsTruncated": False,
        })  # fmt: skip


def _entity(arn: str) -> Principal:
    try:
        return of_entity(arn)
    except LookupError:
        raise NoSuchEntity(f"The entity {arn} cannot be found: give the ARN of a user or role.") from None


def _document(text: str) -> dict:
    try:
        return parse(text)
    except json.JSONDecodeError:
        raise InvalidInput("The policy is not in the valid JSON format.") from None


def _result(grants: Grants, action: str, resource: str, context: Context, shared: list[dict]) -> dict:
    verdict = authorize(grants, action, resource, context, shared)
    result = {
        "EvalActionName": action, "EvalResourceName": resource, "EvalDecision": verdict.decision, "MatchedStatements": [],
        "MissingContextValues": [],
    }  # fmt: skip
    if grants.boundary is not None:
        allowed = evaluate(grants.boundary, action, resource, context) == "allowed"
        result["PermissionsBoundaryDecisionDetail"] = {"AllowedByPermissionsBoundary": allowed}
    return result | ({"EvalDecisionDetails": {verdict.source: verdict.decision}} if verdict.source != IDENTITY else {})


def _allowed_services(principal: Principal) -> set[str]:
    statements = [one for document in principal.grants.identity for one in as_list(document.get("Statement")) if one["Effect"] == "Allow"]
    actions = [action for statement in statements for action in as_list(statement.get("Action"))]
    return {action.partition(":")[0].lower() for action in actions if ":" in action}


def _accessed(service: str, call: iam_record.Call | None) -> dict:
    known = {
        "ServiceName": SERVICES.get(service, service),
        "ServiceNamespace": service,
        "TotalAuthenticatedEntities": int(call is not None),
    }
    if call is None:
        return known
    return known | {
        "LastAuthenticated": call.time, "LastAuthenticatedEntity": call.principal.entity_arn, "LastAuthenticatedRegion": call.region,
    }  # fmt: skip


class Sts(TokenResponse):
    """moto's STS, which knows who asks."""

    def get_caller_identity(self) -> ActionResult:
        """The owner is the account's root here; moto makes a user of them."""
        who = of_key(self.normalized_request.environ["opml.access_key_id"])
        return ActionResult({"UserId": who.user_id, "Account": settings.account, "Arn": who.arn})


class CloudTrail(CloudTrailResponse):
    """moto's CloudTrail (trails are stored) with the record of what happened here."""

    def lookup_events(self) -> str:
        """The newest first; unlike AWS's, with data events, at once, and for as long as the server lives."""
        given = {one["AttributeKey"]: one["AttributeValue"] for one in self._get_param("LookupAttributes") or []}
        start, end = self._get_param("StartTime"), self._get_param("EndTime")
        events = [call.event() for call in iam_record.newest_first() if _within(call.time, start, end)]
        events = [event for event in events if all(_has(event, key, value) for key, value in given.items())]
        events, size = _after(events, self._get_param("NextToken")), int(self._get_param("MaxResults") or PAGE)
        page = {"Events": [{**one, "EventTime": one["EventTime"].timestamp()} for one in events[:size]]}
        return json.dumps(page | ({"NextToken": events[size - 1]["EventId"]} if size < len(events) else {}))


def _after(events: list[dict], token: str | None) -> list[dict]:
    """What follows the event that the token names: a position would move, because looking is an event, too."""
    if not token:
        return events
    for position, event in enumerate(events, start=1):
        if event["EventId"] == token:
            return events[position:]
    raise InvalidNextToken(f"The token {token} names no event of this lookup.")


def _within(moment: datetime, start: float | None, end: float | None) -> bool:
    return (start is None or moment.timestamp() >= float(start)) and (end is None or moment.timestamp() < float(end) + 1)


def _has(event: dict, key: str, value: str) -> bool:
    if key in ("ResourceName", "ResourceType"):
        names = [resource[key] for resource in event["Resources"]]
        return value in names or (key == "ResourceName" and any(name.endswith(("/" + value, ":" + value)) for name in names))
    return key in ATTRIBUTES and event[key] == value


def install() -> None:
    """Put our response classes in the place of moto's; call before the first request."""
    urls.url_paths["{0}/$"] = Iam.dispatch
    sts_urls.url_paths["{0}/$"] = Sts.dispatch
    cloudtrail_urls.url_paths["{0}/$"] = CloudTrail.dispatch
