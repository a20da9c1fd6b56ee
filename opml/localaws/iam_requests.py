"""What a request asks for, in IAM's terms: actions, resource ARNs, condition keys, and the roles it hands on.

Names and resource types are those of the "Service authorization reference", for the services that the course uses. A service that is not
here is checked against the resource ``*``: a policy that names ARNs of it never allows anything.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote

from opml.localaws import iam_ec2, iam_needs, iam_s3
from opml.localaws.iam_policy import Context, as_list
from opml.localaws.settings import settings

PREFIXES = {"monitoring": "cloudwatch", "tagging": "tag"}  # services that sign with another name than IAM's
RENAMED = {"lambda:Invoke": "lambda:InvokeFunction", "lambda:InvokeWithResponseStream": "lambda:InvokeFunction"}
ALWAYS = ("sts:GetCallerIdentity", "sts:GetSessionToken")  # need no permission


@dataclass
class Asked:
    """``checks``: (action, resource) pairs that must all be allowed; the first is what the request is about."""

    service: str
    operation: str
    checks: list[tuple[str, str]]
    context: Context = field(default_factory=dict)
    own: dict[str, Context] = field(default_factory=dict)  # ARN -> what of the context is this resource's alone
    passed: list[iam_needs.Passed] = field(default_factory=list)
    reads: list[tuple[str, str]] = field(default_factory=list)  # (role, S3 URI) that the service reads before it answers

    @property
    def action(self) -> str:
        """The main action."""
        return self.checks[0][0]


def asked(response, service: str, resource: str) -> Asked:
    """Read moto's response object.

    Parameters
    ----------
    service : str
        The service of the signature's scope.
    resource : str
        What moto gives: for S3 the ARN of bucket or object, for others of no use.
    """
    service = PREFIXES.get(service, service)
    if service == "s3":
        checks, context = iam_s3.asked(response, resource)
        return Asked(service, checks[0][0].partition(":")[2], checks, context)
    operation, parameters = response._get_action() or "Unknown", _parameters(response, service)
    action = RENAMED.get(f"{service}:{operation}", f"{service}:{operation}")
    find = RESOURCES.get(service, lambda *_: ["*"])
    checks = [(action, arn) for arn in find(response, operation, parameters)]
    told = Asked(service, operation, checks, _context(service, operation, parameters))
    if service == "ec2":
        arns = [arn for _, arn in checks]
        told.context |= iam_ec2.tags_of(arns)
        told.own = iam_ec2.request_tags(parameters, arns)
    told.passed = iam_needs.passed(service, operation, checks[0][1], parameters)
    told.checks += iam_needs.tagging(service, operation, checks, parameters)
    if action == "sagemaker:CreateModel":
        told.reads = iam_needs.model_data(parameters)
    return told


def _parameters(response, service: str) -> dict:
    """The request's members: from JSON, from moto's parser, or from a form; bodies of InvokeEndpoint and Invoke are not ours to read."""
    if service in ("sagemaker", "lambda") and response.path.endswith(("/invocations", "/invocations-response-stream")):
        return {}
    body = response.raw_body.decode("utf-8", "replace") if isinstance(response.raw_body, bytes) else response.raw_body or ""
    if body.startswith("{"):
        try:
            return json.loads(body)
        except ValueError:
            return {}  # the operation itself will complain
    if response.automated_parameter_parsing and hasattr(response, "params"):
        return response.params.original_dict() if hasattr(response.params, "original_dict") else dict(response.params)
    return {name: values[0] if isinstance(values, list) else values for name, values in response.querystring.items()}


def _arn(service: str, rest: str) -> str:
    region = "" if service == "iam" else settings.region
    return f"arn:aws:{service}:{region}:{settings.account}:{rest}"


# ---- resources, service by service ----------------------------------------------------------------------------------------------

SAGEMAKER = {
    "TrainingJobName": "training-job", "HyperParameterTuningJobName": "hyper-parameter-tuning-job", "ModelName": "model",
    "EndpointName": "endpoint", "EndpointConfigName": "endpoint-config", "ProcessingJobName": "processing-job",
    "TransformJobName": "transform-job", "NotebookInstanceName": "notebook-instance", "ModelPackageGroupName": "model-package-group",
    "NotebookInstanceLifecycleConfigName": "notebook-instance-lifecycle-config", "ExperimentName": "experiment",
    "TrialName": "experiment-trial",
    "TrialComponentName": "experiment-trial-component", "DomainId": "domain", "PipelineName": "pipeline",
}  # fmt: skip


def _sagemaker(response, operation: str, parameters: dict) -> list[str]:
    """Names stand in lower case in SageMaker's ARNs. An operation may be about several resources (CreateEndpoint: both)."""
    if response.path.startswith("/endpoints/"):
        return [_arn("sagemaker", f"endpoint/{unquote(response.path.split('/')[2]).lower()}")]
    if parameters.get("ResourceArn"):
        return [parameters["ResourceArn"]]
    if operation.startswith("List") and operation != "ListTrainingJobsForHyperParameterTuningJob":
        return ["*"]
    named = [member for member in SAGEMAKER if isinstance(parameters.get(member), str)]
    named.sort(key=lambda member: not operation.endswith(member.removesuffix("Name")))  # what the operation is called after, first
    return [_arn("sagemaker", f"{SAGEMAKER[member]}/{parameters[member].lower()}") for member in named] or ["*"]


def _lambda(response, _operation: str, parameters: dict) -> list[str]:
    parts = [unquote(part) for part in response.path.split("/")]
    if len(parts) > 3 and parts[2] == "tags":
        return [parts[3]]
    name = parts[3] if len(parts) > 3 and parts[2] == "functions" else parameters.get("FunctionName")
    if not isinstance(name, str) or not name:
        return ["*"]
    name, _, qualifier = name.split(":function:")[-1].partition(":")
    if len(parts) > 5 and parts[4] == "aliases":
        qualifier = parts[5]
    qualifier = qualifier or (parse_qs(response.parsed_url.query).get("Qualifier") or [""])[0]
    return [_arn("lambda", f"function:{name}{':' if qualifier else ''}{qualifier}")]


def _logs(_response, operation: str, parameters: dict) -> list[str]:
    """AWS writes ``log-group:NAME:log-stream:STREAM`` for every operation on a group, with nothing where no stream is asked for."""
    group = parameters.get("logGroupName") or parameters.get("logGroupIdentifier") or parameters.get("logGroupNamePrefix") or ""
    if parameters.get("resourceArn"):
        return [parameters["resourceArn"]]
    groups = as_list(parameters.get("logGroupNames")) or [group]
    stream = "" if operation.startswith("Describe") else parameters.get("logStreamName") or ""
    return [_arn("logs", f"log-group:{name.split(':log-group:')[-1].removesuffix(':*')}:log-stream:{stream}") for name in groups]


def _cloudwatch(_response, operation: str, parameters: dict) -> list[str]:
    names = as_list(parameters.get("AlarmNames")) + as_list(parameters.get("AlarmName"))
    if operation == "DescribeAlarms":
        return [_arn("cloudwatch", f"alarm:{name}") for name in names or ["*"]]
    return [_arn("cloudwatch", f"alarm:{name}") for name in names] or as_list(parameters.get("ResourceARN")) or ["*"]


def _iam(response, operation: str, parameters: dict) -> list[str]:
    """Those that exist have a path, which only their own ARN tells."""
    get, backend = parameters.get, response.backend
    path = get("Path") or "/"
    if operation == "CreateServiceLinkedRole":
        return [_arn("iam", f"role/aws-service-role/{get('AWSServiceName')}/*")]
    if operation in ("CreatePolicy", "SimulatePrincipalPolicy", "GenerateServiceLastAccessedDetails"):
        return [get("PolicySourceArn") or get("Arn") or _arn("iam", f"policy{path}{get('PolicyName')}")]
    holders = (
        ("RoleName", "role", {role.name: role.arn for role in list(backend.roles.values())}.get),
        ("UserName", "user", lambda name: getattr(backend.users.get(name), "arn", None)),
        ("GroupName", "group", lambda name: getattr(backend.groups.get(name), "arn", None)),
        ("InstanceProfileName", "instance-profile", {one.name: one.arn for one in list(backend.instance_profiles.values())}.get),
    )
    if operation in ("AddRoleToInstanceProfile", "RemoveRoleFromInstanceProfile"):
        holders = holders[::-1]
    for member, kind, known in holders:
        if get(member):
            return [known(get(member)) or _arn("iam", f"{kind}{path}{get(member)}")]
    return [get("PolicyArn") or "*"]


def _sts(_response, _operation: str, parameters: dict) -> list[str]:
    return [parameters.get("RoleArn") or "*"]


def _autoscaling(_response, operation: str, _parameters: dict) -> list[str]:
    """The id of a scalable target is made by AWS, so a policy can only name all of them."""
    return ["*"] if operation.startswith("Describe") else [_arn("application-autoscaling", "scalable-target/*")]


def _ssm(_response, operation: str, parameters: dict) -> list[str]:
    names = as_list(parameters.get("Names")) + as_list(parameters.get("Name")) + as_list(parameters.get("Path"))
    if "Parameter" not in operation or operation == "DescribeParameters":
        return ["*"]
    return [_parameter_arn(name) for name in names] or ["*"]


def _parameter_arn(name: str) -> str:
    account = "" if name.startswith("/aws/service") else settings.account  # AWS's own, the same for everybody
    return f"arn:aws:ssm:{settings.region}:{account}:parameter/{name.lstrip('/')}"


def _ecr(_response, _operation: str, parameters: dict) -> list[str]:
    name = parameters.get("repositoryName")
    return [_arn("ecr", f"repository/{name}")] if name else ["*"]


RESOURCES: dict[str, Callable[..., list[str]]] = {
    "sagemaker": _sagemaker, "lambda": _lambda, "logs": _logs, "cloudwatch": _cloudwatch, "iam": _iam, "sts": _sts,
    "application-autoscaling": _autoscaling, "ssm": _ssm, "ecr": _ecr, "ec2": iam_ec2.resources,
}  # fmt: skip


# ---- condition keys -------------------------------------------------------------------------------------------------------------

# Members of a request that are condition keys as they stand.
KEYS = {
    "cloudwatch": {"cloudwatch:namespace": "Namespace"},
    "application-autoscaling": {
        "application-autoscaling:service-namespace": "ServiceNamespace", "application-autoscaling:scalable-dimension": "ScalableDimension",
    },
    "iam": {"iam:policyarn": "PolicyArn", "iam:awsservicename": "AWSServiceName", "iam:permissionsboundary": "PermissionsBoundary"},
    "sts": {"sts:rolesessionname": "RoleSessionName", "sts:externalid": "ExternalId"},
    "sagemaker": {
        "sagemaker:rootaccess": "RootAccess", "sagemaker:directinternetaccess": "DirectInternetAccess",
        "sagemaker:networkisolation": "EnableNetworkIsolation", "sagemaker:acceleratortypes": "AcceleratorType",
    },
}  # fmt: skip


def _context(service: str, operation: str, parameters: dict) -> Context:
    """The service's own condition keys, and tags of the request."""
    context: Context = {}
    for key, member in KEYS.get(service, {}).items():
        if parameters.get(member) is not None:
            context[key] = _text(parameters[member])
    if service == "ec2":
        context |= iam_ec2.context(operation, parameters)
    if service == "iam" and (boundary := iam_needs.boundary(operation, parameters)):
        context["iam:permissionsboundary"] = boundary
    if service == "sagemaker" and (types := _instance_types(parameters)):
        context["sagemaker:instancetypes"] = types
    for key, value in iam_needs.tags(parameters):
        context[f"aws:requesttag/{key.lower()}"] = value
        context.setdefault("aws:tagkeys", []).append(key)
    return context


def _text(value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _instance_types(parameters: dict) -> list[str]:
    places = [parameters, parameters.get("ResourceConfig") or {}, *(parameters.get("ProductionVariants") or [])]
    places += [definition.get("ResourceConfig") or {} for definition in iam_needs.definitions(parameters)]
    return [place["InstanceType"] for place in places if isinstance(place.get("InstanceType"), str)]
