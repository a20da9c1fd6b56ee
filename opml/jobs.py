"""Jobs and endpoints of a run: found by name and tag, waited for, and read back."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

import pandas as pd
from botocore.exceptions import ClientError, WaiterError

from opml.core.metrics import read_history
from opml.errors import NotFound, OpmlError

if TYPE_CHECKING:
    from sagemaker.pytorch import PyTorch

    from opml.aws import Aws

LOG_GROUP = "/aws/sagemaker/TrainingJobs"


def _of_this_run(aws: Aws, arn: str) -> bool:
    tags = aws.client("sagemaker").list_tags(ResourceArn=arn)["Tags"]
    return {"Key": "opml:run_id", "Value": aws.run_id} in tags


def find_training_job(aws: Aws, what: str = "train") -> str | None:
    """The newest completed training job of this run and name whose model still exists, or None.

    A teardown deletes the objects in S3, but the job's record stays in SageMaker for good.
    """
    name = aws.name(what)
    pages = aws.client("sagemaker").get_paginator("list_training_jobs").paginate(NameContains=name, StatusEquals="Completed")
    jobs = [job for page in pages for job in page["TrainingJobSummaries"]]
    for job in sorted(jobs, key=lambda job: job["CreationTime"], reverse=True):
        ours = re.match(re.escape(name) + r"-\d{4}-\d\d-\d\d-", job["TrainingJobName"]) and _of_this_run(aws, job["TrainingJobArn"])
        if ours and _has_model(aws, job["TrainingJobName"]):
            return job["TrainingJobName"]
    return None


def _has_model(aws: Aws, job_name: str) -> bool:
    uri = describe_job(aws, job_name).get("ModelArtifacts", {}).get("S3ModelArtifacts") or "s3:///"
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bool(key) and aws.client("s3").list_objects_v2(Bucket=bucket, Prefix=key)["KeyCount"] > 0


def model_data_of(aws: Aws, job_name: str) -> str:
    """The S3 URI of a completed job's ``model.tar.gz``.

    Raises
    ------
    NotFound
        There is no such job, or it left no model.
    """
    uri = describe_job(aws, job_name).get("ModelArtifacts", {}).get("S3ModelArtifacts")
    if not uri:
        raise NotFound(f"training job {job_name} left no model: look at opml.estimators.job_log(aws, {job_name!r})")
    return uri


def describe_job(aws: Aws, job_name: str) -> dict:
    """What SageMaker says of a training job.

    Raises
    ------
    NotFound
        There is no training job of that name.
    """
    try:
        return aws.client("sagemaker").describe_training_job(TrainingJobName=job_name)
    except ClientError as error:
        if not _says_missing(error):
            raise
        raise NotFound(
            f"training job {job_name!r} does not exist in {aws.region}: list them with aws sagemaker list-training-jobs"
        ) from error


def _says_missing(error: ClientError) -> bool:
    """SageMaker has no code of its own for what does not exist; jobs and endpoints are worded differently."""
    said = error.response["Error"]["Message"].lower()
    return "could not find" in said or "not found" in said


def endpoint_status(aws: Aws, endpoint_name: str) -> dict | None:
    """The description of an endpoint, or None if there is none of that name."""
    try:
        return aws.client("sagemaker").describe_endpoint(EndpointName=endpoint_name)
    except ClientError as error:
        if not _says_missing(error):
            raise
        return None


def find_endpoint(aws: Aws, what: str = "endpoint") -> str | None:
    """The name of this run's endpoint if it is in service, else None."""
    found = endpoint_status(aws, aws.name(what))
    if found and found["EndpointStatus"] == "InService" and _of_this_run(aws, found["EndpointArn"]):
        return found["EndpointName"]
    return None


def wait_for_job(aws: Aws, job_name: str, seconds: int = 3600) -> dict:
    """Wait until a training job has ended, and describe it.

    Raises
    ------
    OpmlError
        It failed, was stopped, or has not ended in time.
    """
    waiter = aws.client("sagemaker").get_waiter("training_job_completed_or_stopped")
    try:
        waiter.wait(TrainingJobName=job_name, WaiterConfig={"Delay": 2, "MaxAttempts": max(1, seconds // 2)})
    except WaiterError as error:
        reason = describe_job(aws, job_name).get("FailureReason", str(error))
        raise OpmlError(f"training job {job_name} did not complete: {reason}") from error
    return describe_job(aws, job_name)


def fit_together(fits: Iterable[tuple[PyTorch, dict[str, str]]], at_once: int = 2) -> None:
    """Train estimators that do not depend on each other, ``at_once`` at a time: an account's quota of instances is small.

    Where one fails, or the waiting is interrupted, those that still run are stopped.

    Parameters
    ----------
    fits : iterable of (PyTorch, dict)
        Each estimator with the inputs of its ``fit``.
    """
    running = []
    try:
        for estimator, inputs in fits:
            if len(running) == at_once:
                running[0].wait(logs="None")
                running.pop(0)
            estimator.fit(inputs, wait=False)
            running.append(estimator.latest_training_job)
        for job in running:
            job.wait(logs="None")
    except BaseException:
        for job in running:
            job.stop()  # of one that has ended the SDK says so, and goes on
        raise


def job_log(aws: Aws, job_name: str) -> list[str]:
    """The lines a training job printed, one instance after the other (CloudWatch Logs keeps them after the job has gone)."""
    logs, lines = aws.client("logs"), []
    with contextlib.suppress(logs.exceptions.ResourceNotFoundException):  # no job has printed anything yet
        streams = logs.get_paginator("describe_log_streams").paginate(logGroupName=LOG_GROUP, logStreamNamePrefix=f"{job_name}/")
        for stream in [stream["logStreamName"] for page in streams for stream in page["logStreams"]]:
            lines += _stream_lines(logs, stream)
    return lines


def _stream_lines(logs, stream: str) -> list[str]:
    lines, token = [], {}
    while True:
        page = logs.get_log_events(logGroupName=LOG_GROUP, logStreamName=stream, startFromHead=True, **token)
        lines += [event["message"] for event in page["events"]]
        if not page["events"] or page["nextForwardToken"] == token.get("nextToken"):
            return lines
        token = {"nextToken": page["nextForwardToken"]}


def metric_history(aws: Aws, job_name: str) -> pd.DataFrame:
    """Every metric value a job printed, in order: columns metric, value, epoch. Test values stand at the epoch that was kept.

    CloudWatch keeps one average a minute, too coarse for short jobs, so the log is read with the same expressions.
    """
    rows = read_history("\n".join(job_log(aws, job_name)))
    return pd.DataFrame(rows, columns=["metric", "value", "epoch"])
