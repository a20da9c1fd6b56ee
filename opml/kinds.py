"""The kinds of things that a run makes in an account: how each is found, what it bills, how it is deleted.

What belongs to a run is what carries its ``opml:run_id`` tag; what has no tag (some things that AWS makes itself cannot have one)
belongs to it if its name starts with ``opml-<run_id>-``. Completed training and tuning jobs are not listed: AWS keeps them as
history, they cannot be deleted and bill nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from opml import costs, policies, scaling, security
from opml.errors import OpmlError

if TYPE_CHECKING:
    from opml.aws import Aws

FREE = "no"
GONE = ("NoSuchEntity", "ResourceNotFound", "ResourceNotFoundException", "ObjectNotFoundException", "InvalidInstanceID.NotFound")


@dataclass(frozen=True)
class Resource:
    """One thing in the account; ``ref`` is what its deletion needs beside the name (an ARN, a dimension, a status)."""

    kind: str
    name: str
    bills: str = FREE
    ref: str = ""


@dataclass(frozen=True)
class Kind:
    """How things of one kind are found and deleted."""

    name: str
    find: Callable[[Aws], Iterator[Resource]]
    delete: Callable[[Aws, Resource], None]


def _pages(client, operation: str, key: str, **arguments) -> list[dict]:
    if not client.can_paginate(operation):
        return getattr(client, operation)(**arguments)[key]
    return [item for page in client.get_paginator(operation).paginate(**arguments) for item in page[key]]


def is_gone(error: Exception) -> bool:
    """Whether an error says that the thing does not exist (any more)."""
    said = getattr(error, "response", {}).get("Error", {})
    return said.get("Code") in GONE or any(words in said.get("Message", "").lower() for words in ("could not find", "does not exist"))


def stem(aws: Aws) -> str:
    """What the names of this run's things begin with: ``opml-<run_id>-``."""
    return aws.name("x").removesuffix("x")


def _mine(aws: Aws, name: str, read_tags: Callable[[], list | dict]) -> bool:
    """Whether a thing is of this run: its tag decides, without a tag its name. What is not called ``opml-...`` is not even asked."""
    if not name.startswith("opml-"):
        return False
    tags = read_tags()
    tags = tags if isinstance(tags, dict) else {tag["Key"]: tag["Value"] for tag in tags}
    return tags["opml:run_id"] == aws.run_id if "opml:run_id" in tags else name.startswith(stem(aws))


def _arn_tags(aws: Aws, arn: str) -> Callable[[], list]:
    return lambda: aws.client("sagemaker").list_tags(ResourceArn=arn)["Tags"]


def _endpoint_tags(aws: Aws, name: str) -> list:
    """The tags of an endpoint, which decide also about what AWS makes for it; none if it is gone."""
    try:
        return aws.client("sagemaker").list_tags(ResourceArn=security.endpoint_arn(aws, name))["Tags"]
    except ClientError as error:
        if not is_gone(error):
            raise
        return []


# --- SageMaker --------------------------------------------------------------------------------------------------------


def _endpoints(aws: Aws) -> Iterator[Resource]:
    for item in _pages(aws.client("sagemaker"), "list_endpoints", "Endpoints", NameContains="opml-"):
        if _mine(aws, item["EndpointName"], _arn_tags(aws, item["EndpointArn"])):
            yield Resource("endpoint", item["EndpointName"], _endpoint_bill(aws, item["EndpointName"]))


def _endpoint_bill(aws: Aws, name: str) -> str:
    sagemaker = aws.client("sagemaker")
    endpoint = sagemaker.describe_endpoint(EndpointName=name)
    counts = {v["VariantName"]: v.get("CurrentInstanceCount", 1) for v in endpoint.get("ProductionVariants", [])}
    try:
        config = sagemaker.describe_endpoint_config(EndpointConfigName=endpoint["EndpointConfigName"])
    except ClientError:
        return "yes, and its configuration is gone"
    variants = config["ProductionVariants"]
    return " + ".join(_hourly(v["InstanceType"], counts.get(v["VariantName"], 1)) for v in variants)


def _hourly(instance_type: str, count: int) -> str:
    if instance_type not in costs.PRICES:
        return f"{count} x {instance_type}, price not in the table"
    return f"{costs.PRICES[instance_type].usd_hour * count:.3f} USD/hour (prices of {costs.AS_OF})"


def _delete_endpoint(aws: Aws, found: Resource) -> None:
    sagemaker = aws.client("sagemaker")
    sagemaker.delete_endpoint(EndpointName=found.name)
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=found.name, WaiterConfig={"Delay": 1, "MaxAttempts": 600})


def _endpoint_configs(aws: Aws) -> Iterator[Resource]:
    for item in _pages(aws.client("sagemaker"), "list_endpoint_configs", "EndpointConfigs", NameContains="opml-"):
        if _mine(aws, item["EndpointConfigName"], _arn_tags(aws, item["EndpointConfigArn"])):
            yield Resource("endpoint config", item["EndpointConfigName"])


def _models(aws: Aws) -> Iterator[Resource]:
    for item in _pages(aws.client("sagemaker"), "list_models", "Models", NameContains="opml-"):
        if _mine(aws, item["ModelName"], _arn_tags(aws, item["ModelArn"])):
            yield Resource("model", item["ModelName"])


def _tuning_jobs(aws: Aws) -> Iterator[Resource]:
    sagemaker = aws.client("sagemaker")
    for item in _pages(sagemaker, "list_hyper_parameter_tuning_jobs", "HyperParameterTuningJobSummaries", StatusEquals="InProgress"):
        name = item["HyperParameterTuningJobName"]
        if item["HyperParameterTuningJobStatus"] == "InProgress" and _mine(aws, name, _arn_tags(aws, item["HyperParameterTuningJobArn"])):
            yield Resource("tuning job in progress", name, "its training jobs do")


def _stop_tuning_job(aws: Aws, found: Resource) -> None:
    aws.client("sagemaker").stop_hyper_parameter_tuning_job(HyperParameterTuningJobName=found.name)


def _training_jobs(aws: Aws) -> Iterator[Resource]:
    sagemaker = aws.client("sagemaker")
    for status in ("InProgress", "Stopping"):
        for item in _pages(sagemaker, "list_training_jobs", "TrainingJobSummaries", StatusEquals=status):
            name = item["TrainingJobName"]
            if item["TrainingJobStatus"] == status and _mine(aws, name, _arn_tags(aws, item["TrainingJobArn"])):
                used = sagemaker.describe_training_job(TrainingJobName=name)["ResourceConfig"]
                yield Resource("training job in progress", name, _hourly(used["InstanceType"], used["InstanceCount"]), status)


def _stop_training_job(aws: Aws, found: Resource) -> None:
    sagemaker = aws.client("sagemaker")
    try:
        if found.ref == "InProgress":
            sagemaker.stop_training_job(TrainingJobName=found.name)
    except ClientError as error:  # it ends already: its tuning job was stopped a moment ago, or it has finished meanwhile
        if "in status" not in str(error):
            raise
    waiter = sagemaker.get_waiter("training_job_completed_or_stopped")  # it still writes to S3 until then
    waiter.wait(TrainingJobName=found.name, WaiterConfig={"Delay": 1, "MaxAttempts": 600})


def _scalable_targets(aws: Aws) -> Iterator[Resource]:
    client = aws.client("application-autoscaling")
    for item in _pages(client, "describe_scalable_targets", "ScalableTargets", ServiceNamespace=scaling.NAMESPACE):
        name = item["ResourceId"].split("/")[1]
        if _mine(aws, name, lambda name=name: _endpoint_tags(aws, name)):
            yield Resource("scalable target", item["ResourceId"], FREE, item["ScalableDimension"])


def _deregister(aws: Aws, found: Resource) -> None:
    ids = {"ServiceNamespace": scaling.NAMESPACE, "ResourceId": found.name}
    client = aws.client("application-autoscaling")
    for policy in _pages(client, "describe_scaling_policies", "ScalingPolicies", **ids):
        client.delete_scaling_policy(PolicyName=policy["PolicyName"], ScalableDimension=found.ref, **ids)
    client.deregister_scalable_target(ScalableDimension=found.ref, **ids)


# --- Lambda, logs, EC2 ------------------------------------------------------------------------------------------------


def _functions(aws: Aws) -> Iterator[Resource]:
    client = aws.client("lambda")
    for item in _pages(client, "list_functions", "Functions"):
        arn = item["FunctionArn"]
        if _mine(aws, item["FunctionName"], lambda arn=arn: client.list_tags(Resource=arn).get("Tags", {})):
            yield Resource("function", item["FunctionName"], "per call")


def _log_groups(aws: Aws) -> Iterator[Resource]:
    logs = aws.client("logs")
    readers = {
        "/aws/lambda/": lambda item: logs.list_tags_log_group(logGroupName=item["logGroupName"])["tags"],
        "/aws/sagemaker/Endpoints/": lambda item: _endpoint_tags(aws, item["logGroupName"].rpartition("/")[2]),
    }
    for prefix, read_tags in readers.items():
        for item in _pages(logs, "describe_log_groups", "logGroups", logGroupNamePrefix=prefix + stem(aws)):
            if _mine(aws, item["logGroupName"].removeprefix(prefix), lambda item=item, read=read_tags: read(item)):
                yield Resource("log group", item["logGroupName"], "0.03 USD/GB-month of log")


def _instances(aws: Aws) -> Iterator[Resource]:
    states = ["pending", "running", "stopping", "stopped"]
    filters = [{"Name": "tag:opml:run_id", "Values": [aws.run_id]}, {"Name": "instance-state-name", "Values": states}]
    for reservation in _pages(aws.client("ec2"), "describe_instances", "Reservations", Filters=filters):
        for item in reservation["Instances"]:
            yield Resource("EC2 instance", item["InstanceId"], _hourly(item["InstanceType"], 1))


# --- IAM and S3 -------------------------------------------------------------------------------------------------------


def _roles(aws: Aws) -> Iterator[Resource]:
    iam = aws.client("iam")
    for item in _pages(iam, "list_roles", "Roles"):
        name = item["RoleName"]
        if _mine(aws, name, lambda name=name: iam.list_role_tags(RoleName=name)["Tags"]):
            yield Resource("IAM role", name)


def _policies(aws: Aws) -> Iterator[Resource]:
    iam = aws.client("iam")
    for item in _pages(iam, "list_policies", "Policies", Scope="Local"):
        arn = item["Arn"]
        if _mine(aws, item["PolicyName"], lambda arn=arn: iam.list_policy_tags(PolicyArn=arn)["Tags"]):
            yield Resource("IAM policy", item["PolicyName"], FREE, arn)


def _prefix(aws: Aws) -> str:
    return aws.uri().removeprefix(f"s3://{aws.bucket}/").rstrip("/") + "/"  # the slash: run "a" must not find run "a-2"


def _objects(aws: Aws) -> Iterator[Resource]:
    pages = aws.client("s3").get_paginator("list_objects_v2").paginate(Bucket=aws.bucket, Prefix=_prefix(aws))
    sizes = [item["Size"] for page in pages for item in page.get("Contents", [])]
    if sizes:
        month = sum(sizes) / 1e9 * costs.S3_GB_MONTH
        bills = f"{month:.4f} USD/month for {len(sizes)} objects, {sum(sizes) / 1e6:.1f} MB (prices of {costs.AS_OF})"
        yield Resource("S3 objects", f"s3://{aws.bucket}/{_prefix(aws)}", bills)


def _delete_objects(aws: Aws, found: Resource) -> None:
    s3 = aws.client("s3")
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=aws.bucket, Prefix=_prefix(aws)):
        keys = [{"Key": item["Key"]} for item in page.get("Contents", [])]
        errors = s3.delete_objects(Bucket=aws.bucket, Delete={"Objects": keys, "Quiet": True}).get("Errors") if keys else None
        if errors:
            raise OpmlError(f"{len(errors)} objects could not be deleted, the first: {errors[0]}")


# --- all of them ------------------------------------------------------------------------------------------------------

# In the order of deletion: what uses something goes before what it uses; what writes logs or objects before those.
KINDS: tuple[Kind, ...] = (
    Kind("scalable target", _scalable_targets, _deregister),
    Kind("tuning job in progress", _tuning_jobs, _stop_tuning_job),
    Kind("training job in progress", _training_jobs, _stop_training_job),
    Kind("EC2 instance", _instances, lambda aws, r: aws.client("ec2").terminate_instances(InstanceIds=[r.name])),
    Kind("function", _functions, lambda aws, r: aws.client("lambda").delete_function(FunctionName=r.name)),
    Kind("endpoint", _endpoints, _delete_endpoint),
    Kind(
        "endpoint config",
        _endpoint_configs,
        lambda aws, r: aws.client("sagemaker").delete_endpoint_config(EndpointConfigName=r.name),
    ),
    Kind("model", _models, lambda aws, r: aws.client("sagemaker").delete_model(ModelName=r.name)),
    Kind("log group", _log_groups, lambda aws, r: aws.client("logs").delete_log_group(logGroupName=r.name)),
    Kind("IAM role", _roles, lambda aws, r: policies.delete_role(aws, r.name)),
    Kind("IAM policy", _policies, lambda aws, r: aws.client("iam").delete_policy(PolicyArn=r.ref)),
    Kind("S3 objects", _objects, _delete_objects),
)
