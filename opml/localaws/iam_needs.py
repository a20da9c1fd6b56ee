"""What a request needs beside its own action: the rights to tag and to hand a role on; what a role must read; what bounds a role."""

from dataclasses import dataclass

from moto.iam.models import iam_backends

from opml.localaws import iam_ec2
from opml.localaws.iam_policy import as_list
from opml.localaws.settings import settings

# Creates with tags -> the action that tags.
TAGGING = {
    "sagemaker": "sagemaker:AddTags", "lambda": "lambda:TagResource", "ec2": "ec2:CreateTags", "logs": "logs:TagResource",
    "application-autoscaling": "application-autoscaling:TagResource", "iam": "iam:Tag{kind}",
}  # fmt: skip
BOUNDED = ("PutRolePolicy", "AttachRolePolicy", "DetachRolePolicy", "DeleteRolePolicy", "DeleteRolePermissionsBoundary")


@dataclass(frozen=True)
class Passed:
    """A role that the request hands to a service; ``source_arn`` is what the service will act for."""

    role_arn: str
    service: str
    source_arn: str


def tagging(service: str, operation: str, checks: list[tuple[str, str]], parameters: dict) -> list[tuple[str, str]]:
    """To create something with tags is to tag it, too."""
    if service not in TAGGING or operation == "CreateTags" or not operation.startswith(("Create", "RunInstances", "Register")):
        return []
    action = TAGGING[service].format(kind=operation.removeprefix("Create"))
    if service == "ec2":
        return [(action, arn) for arn in iam_ec2.tagged(parameters, checks)]
    return [(action, checks[0][1])] if tags(parameters) else []


def tags(parameters: dict) -> list[tuple[str, str]]:
    """The (key, value) pairs of a request, however the service writes them."""
    given = parameters.get("Tags") or parameters.get("tags") or []
    if isinstance(given, dict):
        return [(key, str(value)) for key, value in given.items()]
    return [(tag["Key"], tag.get("Value", "")) for tag in as_list(given) if isinstance(tag, dict) and "Key" in tag]


def boundary(operation: str, parameters: dict) -> str | None:
    """The permissions boundary of the role that a request changes (that of a new one is in the request itself)."""
    roles = list(iam_backends[settings.account]["aws"].roles.values()) if operation in BOUNDED else []
    return next((role.permissions_boundary_arn for role in roles if role.name == parameters.get("RoleName")), None)


def passed(service: str, operation: str, arn: str, parameters: dict) -> list[Passed]:
    """The roles that the request hands to a service: each needs iam:PassRole, and must trust that service."""
    if service == "ec2":
        return [Passed(role, "ec2.amazonaws.com", arn) for role in iam_ec2.roles_passed(operation, parameters)]
    if service == "lambda" and operation in ("CreateFunction", "UpdateFunctionConfiguration"):
        roles = [parameters.get("Role")]
    elif service == "sagemaker" and operation.startswith(("Create", "Update")):
        roles = [parameters.get("RoleArn"), parameters.get("ExecutionRoleArn"), *(one.get("RoleArn") for one in definitions(parameters))]
    else:
        roles = []
    return [Passed(role, f"{service}.amazonaws.com", arn) for role in dict.fromkeys(roles) if role]


def definitions(parameters: dict) -> list[dict]:
    """The training jobs inside a tuning job."""
    return [
        one
        for one in [parameters.get("TrainingJobDefinition"), *as_list(parameters.get("TrainingJobDefinitions"))]
        if isinstance(one, dict)
    ]


def model_data(parameters: dict) -> list[tuple[str, str]]:
    """(role, S3 URI) of what a model's role must be able to read."""
    containers = [parameters.get("PrimaryContainer") or {}, *(parameters.get("Containers") or [])]
    return [(parameters.get("ExecutionRoleArn", ""), one["ModelDataUrl"]) for one in containers if one.get("ModelDataUrl")]
