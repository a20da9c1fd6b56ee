"""Least-privilege policies: what each part of a run needs, and no more; and roles made of them."""

from __future__ import annotations

import json
from typing import Protocol


class Place(Protocol):
    """What a policy names: an ``opml.aws.Aws``, whose prefix is one run's, or an ``opml.operators.Site``, whose prefix is the project's."""

    region: str
    account: str
    bucket: str

    def uri(self, *parts: str) -> str:
        """``s3://<bucket>/<prefix>/<part>/...``."""
        ...


class Account(Place, Protocol):
    """A connection that makes and deletes roles: an ``opml.aws.Aws``."""

    boundary_arn: str
    tags: list[dict[str, str]]

    def client(self, name: str, **options):
        """A boto3 client."""
        ...


def policy_document(*statements: dict) -> dict:
    """A policy document of these statements."""
    return {"Version": "2012-10-17", "Statement": list(statements)}


def allow(sid: str, actions: list[str], resources: list[str], **extra) -> dict:
    """A statement that allows actions on resources; ``extra`` may add a Condition."""
    return {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resources, **extra}


def endpoint_arn(aws: Place, endpoint_name: str) -> str:
    """The ARN of an endpoint; SageMaker writes its name in lower case there."""
    return f"arn:aws:sagemaker:{aws.region}:{aws.account}:endpoint/{endpoint_name.lower()}"


def trust_policy(service: str, account: str) -> dict:
    """Who may assume a role: one service, acting for this account only (the guard against the confused deputy).

    EC2 does not send ``aws:SourceAccount`` reliably, so that service gets no condition.

    Parameters
    ----------
    service : str
        For example ``lambda.amazonaws.com``.
    """
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    if service != "ec2.amazonaws.com":
        statement["Condition"] = {"StringEquals": {"aws:SourceAccount": account}}
    return policy_document(statement)


def lambda_policy(aws: Place, endpoint_name: str, function_name: str) -> dict:
    """What the function needs and no more: call this endpoint, write its own log streams.

    The log group is made beforehand with a retention, so the function may not create groups.
    """
    logs = f"arn:aws:logs:{aws.region}:{aws.account}:log-group:/aws/lambda/{function_name}:*"
    return policy_document(
        allow("InvokeExactlyOneEndpoint", ["sagemaker:InvokeEndpoint"], [endpoint_arn(aws, endpoint_name)]),
        allow("WriteOwnLogStreams", ["logs:CreateLogStream", "logs:PutLogEvents"], [logs]),
    )


def training_policy(aws: Place, images: tuple[str, ...] = ()) -> dict:
    """What a SageMaker role needs to train, tune and serve a run, or all of a site: its prefix in the bucket, its logs, its images.

    Parameters
    ----------
    images : tuple of str
        Image URIs that may be pulled (``opml.images.image_uri``).

    Notes
    -----
    Action set: SageMaker developer guide, "SageMaker roles", execution role permissions of CreateTrainingJob,
    CreateHyperParameterTuningJob and CreateModel, narrowed by resource.
    """
    objects = f"arn:aws:s3:::{aws.uri().removeprefix('s3://').rstrip('/')}/*"
    namespaces = {"StringLike": {"cloudwatch:namespace": ["/aws/sagemaker/*", "AWS/SageMaker"]}}
    log_actions = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"]
    statements = [
        allow("ListBucket", ["s3:ListBucket", "s3:GetBucketLocation"], [f"arn:aws:s3:::{aws.bucket}"]),
        allow("ReadAndWriteThisRun", ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"], [objects]),
        allow("Logs", log_actions, [f"arn:aws:logs:{aws.region}:{aws.account}:log-group:/aws/sagemaker/*"]),
        allow("Metrics", ["cloudwatch:PutMetricData"], ["*"], Condition=namespaces),
    ]
    if images:
        pull = ["ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage"]
        statements.append(allow("RegistryLogin", ["ecr:GetAuthorizationToken"], ["*"]))  # takes no resource
        statements.append(allow("PullImages", pull, sorted({_repository_arn(image) for image in images})))
    return policy_document(*statements)


def instance_policy(aws: Place) -> dict:
    """What an EC2 training instance needs: read this run's code and data, write its models and log. It ends itself by shutting down."""
    run = f"arn:aws:s3:::{aws.uri().removeprefix('s3://').rstrip('/')}"
    prefix = run.removeprefix(f"arn:aws:s3:::{aws.bucket}/")
    listed = {"StringLike": {"s3:prefix": [f"{prefix}/data/*", f"{prefix}/code/*"]}}
    return policy_document(
        allow("ListInputs", ["s3:ListBucket"], [f"arn:aws:s3:::{aws.bucket}"], Condition=listed),
        allow("ReadCodeAndData", ["s3:GetObject"], [f"{run}/data/*", f"{run}/code/*"]),
        allow("WriteResults", ["s3:PutObject", "s3:AbortMultipartUpload"], [f"{run}/ec2/*"]),
    )


def _repository_arn(image: str) -> str:
    registry, _, repository = image.partition("/")
    account, _, _, region = registry.split(".")[:4]
    return f"arn:aws:ecr:{region}:{account}:repository/{repository.partition(':')[0]}"


def ensure_role(aws: Account, name: str, trust: dict, policy: dict) -> str:
    """Make a tagged role with one inline policy, or bring the one of that name up to date.

    Where the account sets a permissions boundary (``aws.boundary_arn``), the role gets it: an operator may make no role without.

    Returns
    -------
    str
        The role's ARN.
    """
    iam = aws.client("iam")
    boundary = {"PermissionsBoundary": aws.boundary_arn} if aws.boundary_arn else {}
    try:
        role = iam.create_role(RoleName=name, Path="/", AssumeRolePolicyDocument=json.dumps(trust), Tags=aws.tags, **boundary)
    except iam.exceptions.EntityAlreadyExistsException:
        iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(trust))
        role = iam.get_role(RoleName=name)
    iam.put_role_policy(RoleName=name, PolicyName="opml", PolicyDocument=json.dumps(policy))
    iam.get_waiter("role_exists").wait(RoleName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 30})
    return role["Role"]["Arn"]


def delete_role(aws: Account, name: str) -> None:
    """Take everything from a role that holds it, then delete it."""
    iam = aws.client("iam")
    for policy in _listed(iam, "list_attached_role_policies", "AttachedPolicies", name):
        iam.detach_role_policy(RoleName=name, PolicyArn=policy["PolicyArn"])
    for policy in _listed(iam, "list_role_policies", "PolicyNames", name):
        iam.delete_role_policy(RoleName=name, PolicyName=policy)
    for profile in _listed(iam, "list_instance_profiles_for_role", "InstanceProfiles", name):
        iam.remove_role_from_instance_profile(RoleName=name, InstanceProfileName=profile["InstanceProfileName"])
    iam.delete_role(RoleName=name)


def _listed(iam, operation: str, key: str, role: str) -> list:
    return [item for page in iam.get_paginator(operation).paginate(RoleName=role) for item in page[key]]
