"""What an account has before anybody works in it: the default execution role and bucket of SageMaker, a notebook instance's role."""

import json

from moto.iam.models import iam_backends
from moto.s3.models import s3_backends

from opml.localaws import sdk, state
from opml.localaws.settings import settings

SERVICE = "sagemaker.amazonaws.com"
NOTEBOOK_POLICIES = ("AmazonSageMakerFullAccess", "AmazonS3FullAccess")  # the second for buckets without "sagemaker" in their name


def furnish() -> None:
    """Make bucket and role, named as SageMaker's console and SDK name them; fill in ``settings.bucket`` and ``settings.role_arn``."""
    settings.bucket = f"sagemaker-{settings.region}-{settings.account}"
    s3_backends[settings.account]["aws"].create_bucket(settings.bucket, settings.region)
    iam = iam_backends[settings.account]["aws"]
    role = iam.create_role(
        role_name=f"AmazonSageMaker-ExecutionRole-{state.now():%Y%m%dT%H%M%S}",
        assume_role_policy_document=json.dumps(trust_policy()),
        path="/service-role/", permissions_boundary=None, description="Default execution role of the local AWS",
        tags=[], max_session_duration="3600",
    )  # fmt: skip
    iam.put_role_policy(role.name, "opml-sagemaker-execution", json.dumps(execution_policy(settings.bucket)))
    settings.role_arn = role.arn
    _make_notebook_role(iam)


def _make_notebook_role(iam) -> None:
    """The role that notebooks written for an instance get from the SDK: as wide as those that people make in the console."""
    role = iam.create_role(
        role_name=sdk.NOTEBOOK_ROLE, assume_role_policy_document=json.dumps(trust_policy()), path="/service-role/",
        permissions_boundary=None, description="Role of a notebook instance, for notebooks of other people", tags=[],
        max_session_duration="3600",
    )  # fmt: skip
    for policy in NOTEBOOK_POLICIES:
        iam.attach_role_policy(f"arn:aws:iam::aws:policy/{policy}", role.name)


def trust_policy() -> dict:
    """SageMaker may assume the role, on behalf of this account only (confused-deputy conditions)."""
    source = f"arn:aws:sagemaker:{settings.region}:{settings.account}:*"
    conditions = {"StringEquals": {"aws:SourceAccount": settings.account}, "ArnLike": {"aws:SourceArn": source}}
    statement = {"Effect": "Allow", "Principal": {"Service": SERVICE}, "Action": "sts:AssumeRole", "Condition": conditions}
    return {"Version": "2012-10-17", "Statement": [statement]}


def execution_policy(bucket: str) -> dict:
    """What training, tuning and hosting need of one bucket, of their own logs and metrics, and of AWS's images; rules may stop jobs."""
    trainings = f"arn:aws:sagemaker:{settings.region}:{settings.account}:training-job/*"
    logs = f"arn:aws:logs:{settings.region}:{settings.account}:log-group:/aws/sagemaker/*"
    images = [f"arn:aws:ecr:{settings.region}:*:repository/{name}" for name in ("pytorch-training", "pytorch-inference")]
    namespaces = {"StringLike": {"cloudwatch:namespace": ["/aws/sagemaker/*", "aws/sagemaker/*", "AWS/SageMaker"]}}
    return {
        "Version": "2012-10-17",
        "Statement": [
            _allow("ListOurBucket", ["s3:ListBucket", "s3:GetBucketLocation"], f"arn:aws:s3:::{bucket}"),
            _allow("ReadInputs", ["s3:GetObject"], f"arn:aws:s3:::{bucket}/*"),
            _allow("WriteOutputs", ["s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"], f"arn:aws:s3:::{bucket}/*"),
            _allow("Logs", ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"], logs),
            {**_allow("Metrics", ["cloudwatch:PutMetricData"], "*"), "Condition": namespaces},
            _allow("EcrLogin", ["ecr:GetAuthorizationToken"], "*"),  # this action knows no resources
            _allow("RulesFindJobs", ["sagemaker:ListTrainingJobs"], "*"),  # nor does this; both are for Debugger's action StopTraining
            _allow("RulesStopJobs", ["sagemaker:StopTrainingJob"], trainings),
            _allow("PullAwsImages", ["ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage"], images),
        ],
    }


def _allow(sid: str, actions: list[str], resource: str | list[str]) -> dict:
    return {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resource}
