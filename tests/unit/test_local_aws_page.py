"""docs/local-aws.md names every operation that the local AWS answers itself, and no operation that AWS has not."""

import re
from pathlib import Path

import pytest
from botocore import xform_name
from botocore.loaders import Loader

from opml.localaws.autoscaling_api import AutoScaling
from opml.localaws.function_urls_api import UrlsMixin
from opml.localaws.hosting_api import HostingMixin
from opml.localaws.iam_api import CloudTrail, Iam, Sts
from opml.localaws.lambda_api import Lambda
from opml.localaws.metrics_api import CloudWatch
from opml.localaws.provisioned_api import ProvisionedMixin
from opml.localaws.runtime_api import SageMakerRuntime
from opml.localaws.training_api import TrainingMixin

PAGE = (Path(__file__).parents[2] / "docs" / "local-aws.md").read_text()
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| ")]
ANSWERS = {"yes", "stored", "not yet", "no"}
NAMED = set(re.findall(r"`([A-Z]\w+)`", PAGE))
OURS = [
    ("sagemaker", TrainingMixin), ("sagemaker", HostingMixin), ("sagemaker-runtime", SageMakerRuntime), ("lambda", Lambda),
    ("lambda", ProvisionedMixin), ("lambda", UrlsMixin), ("application-autoscaling", AutoScaling), ("iam", Iam), ("sts", Sts),
    ("cloudtrail", CloudTrail), ("cloudwatch", CloudWatch),
]  # fmt: skip
SERVICES = ("sagemaker", "sagemaker-runtime", "lambda", "application-autoscaling", "iam", "sts", "cloudtrail", "cloudwatch")
NO_OPERATIONS = {
    "Host", "File", "FastFile", "Random", "Bayesian", "Grid", "Hyperband", "Event", "Starting", "Stopped", "Creating", "InService",
    "Updating", "Failed", "NoIssuesFound", "S3Prefix", "BillableTimeInSeconds", "DeploymentConfig", "ModelError", "TargetModel",
    "OverheadLatency", "PassRole", "Autotune", "Environment", "Completed", "DisableProfiler", "Error", "NotApplicable", "ProfilerConfig",
    "ProfilerReport", "StopTraining",
}  # fmt: skip


def operations(service):
    """Name of the method that answers -> name of the operation."""
    return {xform_name(name): name for name in Loader().load_service_model(service, "service-2")["operations"]}


@pytest.mark.parametrize(("service", "owner"), OURS, ids=lambda value: getattr(value, "__name__", value))
def test_every_operation_of_ours_is_on_the_page(service, owner):
    known = operations(service)
    ours = {known[name] for name in vars(owner) if name in known}
    assert ours and ours - NAMED == set()


def test_every_operation_on_the_page_is_one_of_aws():
    known = {name for service in SERVICES for name in operations(service).values()}
    assert {name for name in NAMED if not name.isupper() and "_" not in name} - known - NO_OPERATIONS == set()


def test_every_question_has_one_of_the_four_answers_and_says_how():
    rows = [row for row in ROWS if row[:2] != ["question", "answer"]]
    assert rows and [row for row in rows if len(row) != 3 or row[1] not in ANSWERS or not row[2]] == []
