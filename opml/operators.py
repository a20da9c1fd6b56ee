"""The operator: whoever runs the notebooks, with the rights that they need and no more; and the boundary of all roles that they make.

Action names, resource types and condition keys are those of the "Service authorization reference". ``*`` stands as a resource only where
AWS takes no other, or where the review of notebook 04 must read everything.

The operator cannot raise their own rights. Roles are made only under ``role/opml-*`` and only with the boundary below, so that none can do
more than the roles of the notebooks do; the operator's role, the execution role and the boundary lie under the path ``/opml/``, which the
operator cannot write to; a role is passed only to the one service that it is for.
"""

from __future__ import annotations

from dataclasses import dataclass

from opml.policies import allow, policy_document

ADMIN_PATH = "/opml/"  # of what an administrator makes: "role/opml-*" does not reach there
OPERATOR, EXECUTION, BOUNDARY = "OpmlOperator", "OpmlExecution", "OpmlBoundary"
FULL_ACCESS = "arn:aws:iam::aws:policy/AmazonSageMakerFullAccess"  # what notebook 04 plants, on a role that trusts nobody
SCALING = "sagemaker.application-autoscaling.amazonaws.com"

# Allowed, and yet not called by notebooks that end well: why each is needed. A test holds the two lists against a rehearsal's record.
SPARE = {
    "sagemaker:StopTrainingJob": "teardown after an interruption",
    "sagemaker:StopHyperParameterTuningJob": "teardown after an interruption",
    "sagemaker:UpdateEndpointWeightsAndCapacities": "Application Auto Scaling asks it of who registers an endpoint",
    "cloudwatch:PutMetricAlarm": "Application Auto Scaling asks it of who makes a target tracking policy",
    "cloudwatch:DescribeAlarms": "Application Auto Scaling asks it of who makes a target tracking policy",
    "cloudwatch:DeleteAlarms": "Application Auto Scaling asks it of who deletes a target tracking policy",
    "iam:CreateServiceLinkedRole": "the first scalable target of an account makes this role",
    "lambda:UpdateFunctionConfiguration": "a function that is there is turned to another endpoint",
    "iam:UpdateAssumeRolePolicy": "a role that an interrupted run left is brought up to date",
    "iam:RemoveRoleFromInstanceProfile": "teardown of a role that an instance had",
    "iam:ListPolicyTags": "teardown after an interruption of notebook 04",
    "cloudwatch:GetMetricStatistics": "the SDK's training_job_analytics reads a job's metrics",
    "s3:CreateBucket": "the first connection to an account makes SageMaker's default bucket",
    "s3:AbortMultipartUpload": "boto3 gives up the upload of a large file",
    "ec2:TerminateInstances": "teardown of an instance that trains",
    **dict.fromkeys(
        ("ec2:RunInstances", "ec2:CreateTags", "ssm:GetParameters", "iam:CreateInstanceProfile", "iam:AddRoleToInstanceProfile"),
        "notebook 02 builds and checks the launch; it is the reader who sends it",
    ),
    "iam:DeleteInstanceProfile": "takes away what that launch needed",
}


@dataclass(frozen=True)
class Site:
    """Where the project lives in an account: all of its runs, unlike an ``opml.aws.Aws``, which is one run."""

    region: str
    account: str
    bucket: str

    def uri(self, *parts: str) -> str:
        """``s3://<bucket>/opml/<part>/...``."""
        return "/".join([f"s3://{self.bucket}/opml", *parts])

    def arn(self, service: str, resource: str) -> str:
        """The ARN of a resource of a regional service in this account."""
        return f"arn:aws:{service}:{self.region}:{self.account}:{resource}"

    def iam(self, resource: str) -> str:
        """The ARN of a role or policy in this account."""
        return f"arn:aws:iam::{self.account}:{resource}"

    @property
    def boundary_arn(self) -> str:
        """The ARN of the permissions boundary."""
        return self.iam(f"policy{ADMIN_PATH}{BOUNDARY}")

    @property
    def execution_role_arn(self) -> str:
        """The ARN of the role that SageMaker's jobs and endpoints get."""
        return self.iam(f"role{ADMIN_PATH}{EXECUTION}")


def operator_policy(site: Site, execution_role_arn: str = "") -> dict:
    """What whoever runs the notebooks, ``teardown`` and ``predict`` needs, on things called ``opml-*`` and objects under ``opml/``.

    Parameters
    ----------
    execution_role_arn : str
        The role handed to SageMaker; by default the one that `opml.principals` makes.
    """
    groups = (_jobs, _hosting, _storage, _functions, _scaling, _roles, _instances, _reading)
    passing = _passing(site, execution_role_arn or site.execution_role_arn)
    return policy_document(*(statement for group in groups for statement in group(site)), *passing)


def boundary_policy(site: Site) -> dict:
    """The most that any role made by an operator can do, whatever is attached to it: what functions and training instances need."""
    logs = site.arn("logs", "log-group:/aws/lambda/opml-*")
    objects = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"]
    return policy_document(
        allow("InvokeOurEndpoints", ["sagemaker:InvokeEndpoint"], [site.arn("sagemaker", "endpoint/opml-*")]),
        allow("WriteOurFunctionsLogs", ["logs:CreateLogStream", "logs:PutLogEvents"], [logs]),
        allow("ListOurBucket", ["s3:ListBucket"], [f"arn:aws:s3:::{site.bucket}"]),
        allow("OurObjects", objects, [f"arn:aws:s3:::{site.bucket}/opml/*"]),
    )


def _jobs(site: Site) -> list[dict]:
    training = ["CreateTrainingJob", "DescribeTrainingJob", "StopTrainingJob"]
    tuning = [f"{verb}HyperParameterTuningJob" for verb in ("Create", "Describe", "Stop", "ListTrainingJobsFor")]
    logs = ["logs:DescribeLogStreams", "logs:GetLogEvents"]
    return [
        allow("Train", _named("sagemaker", training), [site.arn("sagemaker", "training-job/opml-*")]),
        allow("Tune", _named("sagemaker", tuning), [site.arn("sagemaker", "hyper-parameter-tuning-job/opml-*")]),
        allow("ReadJobLogs", logs, [site.arn("logs", "log-group:/aws/sagemaker/TrainingJobs:*")]),
    ]


def _hosting(site: Site) -> list[dict]:
    endpoint = ["CreateEndpoint", "DescribeEndpoint", "DeleteEndpoint", "InvokeEndpoint", "UpdateEndpointWeightsAndCapacities"]
    config = ["CreateEndpointConfig", "DescribeEndpointConfig", "DeleteEndpointConfig"]
    ours = [site.arn("sagemaker", f"{kind}/opml-*") for kind in ("endpoint", "endpoint-config", "model")]
    jobs = [site.arn("sagemaker", f"{kind}/opml-*") for kind in ("training-job", "hyper-parameter-tuning-job")]
    return [
        allow("Host", _named("sagemaker", endpoint), ours[:1]),
        allow("Configure", _named("sagemaker", ["CreateEndpoint", *config]), ours[1:2]),  # CreateEndpoint is about both
        allow("Model", _named("sagemaker", ["CreateModel", "DeleteModel"]), ours[2:]),
        allow("TagWhatIsOurs", ["sagemaker:AddTags", "sagemaker:ListTags"], [*jobs, *ours]),
    ]


def _storage(site: Site) -> list[dict]:
    """The bucket may be listed whole: HeadBucket and HeadObject send no prefix for a condition to look at."""
    bucket, objects = f"arn:aws:s3:::{site.bucket}", ["GetObject", "PutObject", "DeleteObject", "AbortMultipartUpload"]
    return [
        allow("OurBucket", ["s3:CreateBucket", "s3:ListBucket"], [bucket]),
        allow("OurObjects", _named("s3", objects), [f"{bucket}/opml/*"]),
    ]


def _functions(site: Site) -> list[dict]:
    """Provisioned environments and versions are not used, so not allowed; the code of a function that is there is never changed."""
    functions = [
        "CreateFunction", "GetFunction", "GetFunctionConfiguration", "UpdateFunctionConfiguration", "DeleteFunction", "InvokeFunction",
        "PutFunctionConcurrency", "GetFunctionConcurrency", "TagResource", "ListTags",
    ]  # fmt: skip
    groups = ["CreateLogGroup", "PutRetentionPolicy", "DeleteLogGroup", "TagResource", "ListTagsLogGroup"]
    places = [site.arn("logs", f"log-group:{prefix}opml-*") for prefix in ("/aws/lambda/", "/aws/sagemaker/Endpoints/")]
    return [
        allow("Functions", _named("lambda", functions), [site.arn("lambda", "function:opml-*")]),
        allow("LogGroups", _named("logs", groups), places),
        allow("FindLogGroups", ["logs:DescribeLogGroups"], [site.arn("logs", "log-group:*")]),  # asks for all, then filters
    ]


def _scaling(site: Site) -> list[dict]:
    """AWS names scalable targets by an id of its own, so none can be picked by a name; the key says at least whose they are."""
    actions = ["RegisterScalableTarget", "DeregisterScalableTarget", "PutScalingPolicy", "DeleteScalingPolicy", "TagResource"]
    reads = ["application-autoscaling:DescribeScalableTargets", "application-autoscaling:DescribeScalingPolicies"]
    only = {"StringEquals": {"application-autoscaling:service-namespace": "sagemaker"}}
    alarms = ["cloudwatch:PutMetricAlarm", "cloudwatch:DescribeAlarms", "cloudwatch:DeleteAlarms"]
    linked = site.iam(f"role/aws-service-role/{SCALING}/AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint")
    for_it = {"StringEquals": {"iam:AWSServiceName": SCALING}}
    targets = [site.arn("application-autoscaling", "scalable-target/*")]
    return [
        allow("Scale", _named("application-autoscaling", actions[:-1]), targets, Condition=only),
        allow("TagTargets", ["application-autoscaling:TagResource"], targets),
        allow("ReadScaling", reads, ["*"]),  # these take no resource
        allow("AlarmsOfTargetTracking", alarms, [site.arn("cloudwatch", "alarm:TargetTracking-*")]),
        allow("ScalingsOwnRole", ["iam:CreateServiceLinkedRole"], [linked], Condition=for_it),
    ]


def _roles(site: Site) -> list[dict]:
    """Make and grant only within the boundary; attach only what notebook 04 plants; take away from our own alone."""
    ours, policies = [site.iam("role/opml-*")], [site.iam("policy/service-role/opml-*")]
    bounded = {"StringEquals": {"iam:PermissionsBoundary": site.boundary_arn}}
    planted = {**bounded, "ArnEquals": {"iam:PolicyARN": FULL_ACCESS}}
    keeping = ["UpdateAssumeRolePolicy", "TagRole", "ListRoleTags", "ListInstanceProfilesForRole"]
    taking = ["DeleteRole", "DeleteRolePolicy", "DetachRolePolicy"]
    return [
        allow("MakeBoundedRoles", ["iam:CreateRole", "iam:PutRolePolicy"], ours, Condition=bounded),
        allow("PlantFullAccess", ["iam:AttachRolePolicy"], ours, Condition=planted),
        allow("KeepAndDeleteRoles", _named("iam", [*keeping, *taking]), ours),
        allow("PlantOrphan", _named("iam", ["CreatePolicy", "TagPolicy", "ListPolicyTags", "DeletePolicy"]), policies),
    ]


def _instances(site: Site) -> list[dict]:
    """Launch only with the project's tag, end only what has it; the image is looked up among AWS's public parameters."""
    own = [site.arn("ec2", f"{kind}/*") for kind in ("instance", "volume")]
    used = [site.arn("ec2", f"{kind}/*") for kind in ("network-interface", "subnet", "security-group")]
    public = [f"arn:aws:{kind}" for kind in (f"ec2:{site.region}::image/*", f"ssm:{site.region}::parameter/aws/service/*")]
    profile = ["CreateInstanceProfile", "AddRoleToInstanceProfile", "RemoveRoleFromInstanceProfile", "DeleteInstanceProfile"]
    at_launch = {"StringEquals": {"ec2:CreateAction": "RunInstances"}}
    asked = {"StringEquals": {"aws:RequestTag/opml:project": "opml"}}  # of the instance alone: what else it takes may have no tag
    ours = {"StringEquals": {"aws:ResourceTag/opml:project": "opml"}}
    return [
        allow("LaunchTagged", ["ec2:RunInstances"], own[:1], Condition=asked),
        allow("LaunchWith", ["ec2:RunInstances"], [*own[1:], *used, public[0]]),
        allow("TagAtLaunch", ["ec2:CreateTags"], own, Condition=at_launch),
        allow("FindImages", ["ssm:GetParameters"], public[1:]),
        allow("InstanceProfiles", _named("iam", profile), [site.iam("instance-profile/opml-*")]),
        allow("EndInstances", ["ec2:TerminateInstances"], own[:1], Condition=ours),
    ]


def _reading(site: Site) -> list[dict]:
    """What lists, and what the review reads of every role; nothing here changes anything."""
    roles = ["iam:GetRole", "iam:GetRolePolicy", "iam:ListRolePolicies", "iam:ListAttachedRolePolicies"]
    kinds = ["TrainingJobs", "HyperParameterTuningJobs", "Models", "EndpointConfigs", "Endpoints"]
    others = [
        "iam:ListRoles", "iam:ListPolicies", "lambda:ListFunctions", "lambda:GetAccountSettings", "ec2:DescribeInstances",
        "cloudwatch:GetMetricStatistics",
    ]  # fmt: skip
    return [
        allow("ReviewRoles", roles, [site.iam("role/*")]),
        allow("ReviewPolicies", ["iam:GetPolicy", "iam:GetPolicyVersion"], [site.iam("policy/*"), "arn:aws:iam::aws:policy/*"]),
        allow("List", [*(f"sagemaker:List{kind}" for kind in kinds), *others], ["*"]),  # these take no resource
    ]


def _passing(site: Site, execution_role_arn: str) -> list[dict]:
    return [
        _pass("PassExecutionRole", execution_role_arn, "sagemaker"),
        _pass("PassFunctionRoles", site.iam("role/opml-*"), "lambda"),
        _pass("PassTrainerRoles", site.iam("role/opml-*"), "ec2"),
    ]


def _pass(sid: str, role: str, service: str) -> dict:
    return allow(sid, ["iam:PassRole"], [role], Condition={"StringEquals": {"iam:PassedToService": f"{service}.amazonaws.com"}})


def _named(service: str, operations: list[str]) -> list[str]:
    return [f"{service}:{operation}" for operation in operations]
