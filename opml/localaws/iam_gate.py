"""The one door that every call to every service passes: may this principal do this? Put in the place of moto's own check.

The account's owner may do everything. A user, and a session of a role, may do what their policies allow. Who hands a role to a service
needs iam:PassRole for it, and the role must trust that service.
"""

from collections.abc import Callable

from moto.core.authorization import ActionAuthenticatorMixin
from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult, BaseResponse
from moto.s3.exceptions import BucketAccessDeniedError, S3ClientError
from moto.s3.models import FakeBucket

from opml.localaws import iam_acting, iam_record, iam_shared, request_check
from opml.localaws.iam_needs import Passed
from opml.localaws.iam_policy import ALLOWED, EXPLICIT, Verdict, authorize, evaluate, naming
from opml.localaws.iam_principals import Principal, of_key, role_of, trust
from opml.localaws.iam_requests import ALWAYS, Asked, asked
from opml.localaws.settings import settings
from opml.localaws.state import split_uri

QUERY = ("iam", "sts", "cloudwatch", "sns", "sqs", "autoscaling", "elasticloadbalancing", "cloudformation")  # AccessDenied, no "Exception"
REST = ("lambda", "s3", *QUERY, "ec2")  # 403; services with JSON in both directions answer 400
MUST_TRUST = {
    "sagemaker": ("ValidationException", "Could not assume role {role}. Please ensure that the role exists and allows principal "
                  "'sagemaker.amazonaws.com' to assume the role."),
    "lambda": ("InvalidParameterValueException", "The role defined for the function cannot be assumed by Lambda."),
}  # fmt: skip
NO_MODEL_DATA = (
    "Could not access model data at {uri}. Please ensure that the role \"{role}\" exists and that its trust relationship policy allows the "
    "action \"sts:AssumeRole\" for the service principal \"sagemaker.amazonaws.com\". Also ensure that the role has \"s3:GetObject\" "
    "permissions and that the object is located in {region}."
)  # fmt: skip


class Refusal(ServiceException):
    """The call may not pass; ``status`` is HTTP's."""

    def __init__(self, code: str, message: str, status: int):
        super().__init__(code, message)
        self.status = status


def check(response: BaseResponse, _kind: type, resource: str = "*") -> None:
    """Judge a request that the signature gate has let in, and keep a record of it; raise in the service's own way if it may not pass."""
    environ = response.normalized_request.environ
    key, service = environ["opml.access_key_id"], environ["opml.service"]
    told = asked(response, service, resource)
    try:
        principal = of_key(key)
    except LookupError:  # a session outlives its role
        return _raise(_unknown(told), told, resource)
    refusal = _judge(principal, told) or _malformed(response, told)
    error, message = (refusal.code, refusal.message) if refusal else ("", "")
    arns = tuple(dict.fromkeys(arn for _, arn in told.checks))
    iam_record.add(iam_record.Call(principal, told.action, _event_name(told), arns, settings.region, key, error, message))
    if refusal is not None:
        _raise(refusal, told, resource)


def _malformed(response: BaseResponse, told: Asked) -> Refusal | None:
    """Who may ask must still ask for something that the API allows."""
    found = request_check.refusal(response, told.service)
    return Refusal(*found, 400) if found else None


def may(key: str, actions: tuple[str, ...], arn: str, context: dict[str, str]) -> bool:
    """Whether the holder of a key may do all of this, for what is no operation of an API (a function URL); kept in the record too."""
    principal = of_key(key)
    context = {**iam_shared.of_principal(principal), **context}
    refused = next((action for action in actions if not _verdict(principal, action, arn, context).allowed), None)
    error = "AccessDeniedException" if refused else ""
    name = actions[0].partition(":")[2]
    iam_record.add(
        iam_record.Call(principal, actions[0], name, (arn,), settings.region, key, error, f"{refused} is missing" if refused else "")
    )
    return refused is None


def _unknown(told: Asked) -> Refusal:
    code = {"s3": "InvalidAccessKeyId", "ec2": "AuthFailure"}.get(told.service)
    code = code or ("InvalidClientTokenId" if told.service in QUERY else "UnrecognizedClientException")
    return Refusal(code, "The security token included in the request is invalid.", 403 if told.service in REST else 400)


def _event_name(told: Asked) -> str:
    return told.action.partition(":")[2] if told.service == "s3" else told.operation


def _raise(refusal: Refusal, told: Asked, resource: str) -> None:
    if told.service != "s3":
        raise refusal
    if len(told.checks) > 1 and told.action == "s3:DeleteObject":
        raise BucketAccessDeniedError(resource.rpartition(":")[2])  # moto then answers with an error for each key
    raise S3ClientError(refusal.code, refusal.message)


def _judge(principal: Principal, told: Asked) -> Refusal | None:
    """The refusal, or None: first the actions, then the roles handed on, then what a service will need of them."""
    context = {**iam_shared.of_principal(principal), **told.context}
    if told.action == "sts:AssumeRole":
        return _judge_assumption(principal, told, context)
    if told.action not in ALWAYS:
        for action, arn in told.checks:
            if not (verdict := _verdict(principal, action, arn, {**context, **told.own.get(arn, {})})).allowed:
                return _denied(told, iam_shared.refusal(principal, action, arn, verdict.reason(action)))
    for passed in told.passed:
        if refusal := _judge_passing(principal, told, passed, context):
            return refusal
    return _judge_reading(told)


def _verdict(principal: Principal, action: str, arn: str, context: dict) -> Verdict:
    shared = iam_shared.policies(principal, arn)
    if principal.grants is not None:
        return authorize(principal.grants, action, arn, context, shared)
    if action.endswith("BucketPolicy"):
        return Verdict(ALLOWED)  # the owner can always take a policy away
    return Verdict(EXPLICIT, "resource-based policy") if evaluate(shared, action, arn, context) == EXPLICIT else Verdict(ALLOWED)


def _denied(told: Asked, message: str) -> Refusal:
    status = 403 if told.service in REST or told.action == "sagemaker:InvokeEndpoint" else 400
    if told.service == "ec2":
        return Refusal("UnauthorizedOperation", f"You are not authorized to perform this operation. {message}", status)
    return Refusal("AccessDenied" if told.service in (*QUERY, "s3") else "AccessDeniedException", message, status)


def _judge_assumption(principal: Principal, told: Asked, context: dict) -> Refusal | None:
    """The role must trust the principal; one trusted by name needs no policy of its own, one trusted as part of the account does."""
    action, arn = told.checks[0]
    try:
        document = trust(role_of(arn))
    except LookupError:
        return _denied(told, iam_shared.refusal(principal, action, arn, ""))
    if principal.grants is None:
        return None
    by_name = naming(document, {"AWS": principal.exact_identities})
    trusted = evaluate([naming(document, {"AWS": principal.identities})], action, arn, context) == ALLOWED
    if trusted and authorize(principal.grants, action, arn, context, [by_name]).allowed:
        return None
    return _denied(told, iam_shared.refusal(principal, action, arn, ""))


def _judge_passing(principal: Principal, told: Asked, passed: Passed, context: dict) -> Refusal | None:
    keys = {**context, "iam:passedtoservice": passed.service, "iam:associatedresourcearn": passed.source_arn}
    if not (verdict := _verdict(principal, "iam:PassRole", passed.role_arn, keys)).allowed:
        return _denied(told, iam_shared.refusal(principal, "iam:PassRole", passed.role_arn, verdict.reason("iam:PassRole")))
    if told.service in MUST_TRUST and not trusts(passed.role_arn, passed.service, passed.source_arn):
        code, text = MUST_TRUST[told.service]
        return Refusal(code, text.format(role=passed.role_arn), 400)
    return None


def trusts(role_arn: str, service: str, source_arn: str) -> bool:
    """Whether a role exists and lets a service assume it, to act for ``source_arn`` of this account."""
    try:
        document = trust(role_of(role_arn))
    except LookupError:
        return False
    context = {"aws:sourceaccount": settings.account, "aws:sourcearn": source_arn, "aws:principalisawsservice": "true"}
    return evaluate([naming(document, {"Service": {service}})], "sts:AssumeRole", role_arn, context) == ALLOWED


def _judge_reading(told: Asked) -> Refusal | None:
    """CreateModel looks whether the model's role can read the model's data."""
    for role_arn, uri in told.reads:
        try:
            iam_acting.check_role(role_arn, "SageMaker", "sagemaker.amazonaws.com", "s3:GetObject", object_arn(uri))
        except iam_acting.AccessDenied:
            return Refusal("ValidationException", NO_MODEL_DATA.format(uri=uri, role=role_arn, region=settings.region), 400)
    return None


def object_arn(uri: str) -> str:
    """The ARN of an S3 URI's object, or of its bucket."""
    return "arn:aws:s3:::" + "/".join(part for part in split_uri(uri) if part)


def install() -> None:
    """Take the place of moto's check; a second call changes nothing."""
    ActionAuthenticatorMixin._authenticate_and_authorize_action = check
    FakeBucket.get_permission = _no_opinion
    if not hasattr(BaseResponse.call_action, "answers_refusals"):
        BaseResponse.call_action = _answering_refusals(BaseResponse.call_action)


def _no_opinion(_bucket, _action: str, _resource: str):
    """moto judges bucket policies without their conditions; the gate has judged them with."""
    from moto.iam.access_control import PermissionResult

    return PermissionResult.NEUTRAL


def _answering_refusals(call_action: Callable) -> Callable:
    """Write a refusal in the protocol of the service."""

    def call(self):
        try:
            return call_action(self)
        except Refusal as refusal:
            _, headers, body = self.serialized(ActionResult(refusal))
            headers["status"] = refusal.status
            return refusal.status, headers, body

    call.answers_refusals = True
    return call
