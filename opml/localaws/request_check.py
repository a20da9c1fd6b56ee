"""Every request held against the API model before it is answered, as AWS does: patterns, lengths, ranges and enumerations.

The rules are in ``constraints``; here a request is read by its protocol, and the refusal gets the code that the service uses.
"""

from botocore.model import OperationNotFoundError
from moto.core import routing, utils
from moto.core.model import OperationModel
from moto.core.parse import PROTOCOL_PARSERS
from moto.core.request import determine_request_protocol
from moto.core.routing import NotFound
from moto.core.utils import camelcase_to_underscores

from opml.localaws.constraints import violations

CODES = {
    "iam": "ValidationError", "sts": "ValidationError", "cloudwatch": "ValidationError", "logs": "InvalidParameterException",
    "ecr": "InvalidParameterException", "ec2": "InvalidParameterValue", "s3": "InvalidArgument",
}  # fmt: skip
# (service, operation) -> why AWS accepts there what its model forbids.
MODEL_IS_OFF: dict[tuple[str, str], str] = {}


def refusal(response, service: str) -> tuple[str, str] | None:
    """(AWS's code, AWS's sentence) for a request that breaks a constraint of the API model; None if it breaks none.

    Parameters
    ----------
    response : moto.core.responses.BaseResponse
        moto's object for the request.
    service : str
        IAM's prefix of the service.
    """
    found = broken(response)
    if not found:
        return None
    many = "1 validation error" if len(found) == 1 else f"{len(found)} validation errors"
    return CODES.get(service, "ValidationException"), f"{many} detected: {'; '.join(found)}"


def broken(response) -> list[str]:
    """A sentence for each broken constraint. What no model describes, or nobody answers (501), is the service's own business."""
    try:
        (operation, in_path), parameters = _operation(response), {}
        protocol = determine_request_protocol(operation.service_model, response.normalized_request.content_type)
        if operation.input_shape is not None and protocol in PROTOCOL_PARSERS:
            parameters = PROTOCOL_PARSERS[protocol](operation).parse(_parts(response, operation, in_path))
    except (OperationNotFoundError, NotFound, NotImplementedError, ValueError):
        return []  # ValueError: a body that cannot be read, of which the service complains in its own words
    if (response.boto3_service_name, operation.name) in MODEL_IS_OFF or not parameters:
        return []
    return violations(operation.input_shape, parameters) if _is_answered(response, operation) else []


def _operation(response) -> tuple[OperationModel, dict[str, str]]:
    """The operation's model, and the parameters in the path, by which a REST service is asked."""
    service = response.boto3_service_name
    model = utils.get_service_model(service)
    if str(model.protocol).startswith("rest"):
        return routing.get_service_router(service).match(response.normalized_request)
    return model.operation_model(response._get_action()), {}


def _is_answered(response, operation: OperationModel) -> bool:
    return response.boto3_service_name == "s3" or hasattr(response, camelcase_to_underscores(operation.name))  # S3 finds its own way


def _parts(response, operation: OperationModel, in_path: dict[str, str]) -> dict:
    """What moto's parsers take; bodies that are only handed on (an image for an endpoint, an object) are not read."""
    request = response.normalized_request
    payload = operation.input_shape.serialization.get("payload")
    handed_on = payload is not None and operation.input_shape.members[payload].type_name in ("blob", "string")
    return {
        "method": request.method, "values": request.values, "headers": request.headers, "url_path": request.path,
        "body": b"" if handed_on or response.boto3_service_name == "s3" else request.data, "url_params": in_path,
    }  # fmt: skip
