"""What watching a job brought: verdicts of rules, the record of its losses, times and machine."""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from typing import TYPE_CHECKING, Any

import pandas as pd

from opml.core.records import EVAL, TRAIN, Record
from opml.core.sources import RECORD_FILE, read_recorder
from opml.errors import NotFound
from opml.jobs import describe_job

if TYPE_CHECKING:
    from opml.aws import Aws

FINDINGS = "findings.json"  # what our recorder leaves in the job's output.tar.gz
COLUMNS = ["rule", "status", "details"]


def rule_summary(aws: Aws, job_name: str) -> pd.DataFrame:
    """What the rules said of a job: columns rule, status, details. Rules that nobody evaluated say so.

    SageMaker's statuses, and what our own recorder found, if it watched the job.

    Raises
    ------
    NotFound
        There is no training job of that name.
    """
    job = describe_job(aws, job_name)
    statuses = job.get("DebugRuleEvaluationStatuses", []) + job.get("ProfilerRuleEvaluationStatuses", [])
    said = {s["RuleConfigurationName"]: (s["RuleEvaluationStatus"], s.get("StatusDetails", "").strip()) for s in statuses}
    asked = job.get("DebugRuleConfigurations", []) + job.get("ProfilerRuleConfigurations", [])
    for rule in asked:
        said.setdefault(rule["RuleConfigurationName"], ("NotEvaluated", "configured, but nothing evaluated it"))
    for finding in verdicts(aws, job_name):
        said.setdefault(finding["rule"], (finding["status"], str(finding.get("details") or finding.get("why") or "").strip()))
    return pd.DataFrame([(name, *answer) for name, answer in said.items()], columns=COLUMNS)


def verdicts(aws: Aws, job_name: str) -> list[dict]:
    """What our recorder's rules said of a job: rule, status, step, details, why, suggestion; empty if it did not watch.

    Raises
    ------
    NotFound
        There is no training job of that name.
    """
    found = _output(aws, job_name, FINDINGS)
    return json.loads(found) if found else []


def job_record(aws: Aws, job_name: str) -> Record:
    """What our recorder wrote while a job trained.

    Raises
    ------
    NotFound
        There is no training job of that name, or it left no record.
    """
    lines = _output(aws, job_name, RECORD_FILE)
    if lines is None:
        raise NotFound(f"training job {job_name} left no record: was it trained with record=True, and has it ended?")
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/{RECORD_FILE}", "wb") as file:
            file.write(lines)
        return read_recorder(folder)


def open_trial(aws: Aws, job_name: str) -> Any:
    """The tensors of a job: smdebug's trial of what its hook saved in S3, or what our own recorder wrote where there was no hook.

    Raises
    ------
    NotFound
        There is no training job of that name, or nothing was recorded.
    """
    hook = describe_job(aws, job_name).get("DebugHookConfig")
    if not hook:
        return job_record(aws, job_name)
    from smdebug.trials import create_trial

    return create_trial(f"{hook['S3OutputPath'].rstrip('/')}/{job_name}/debug-output")


def losses(trial: Any, name: str = "CrossEntropyLoss_output_0") -> pd.DataFrame:
    """The losses of single batches by phase: columns phase (TRAIN, EVAL), step (counted within the phase), loss (nats).

    Parameters
    ----------
    trial : what :func:`open_trial` returns.
    """
    if isinstance(trial, Record):
        points = [point for mode in (TRAIN, EVAL) for point in trial.points(name, mode)]
        return pd.DataFrame([(p.mode, p.mode_step, p.value) for p in points], columns=["phase", "step", "loss"])
    from smdebug.core.modes import ModeKeys

    rows = [
        (mode.name, step, float(trial.tensor(name).value(step, mode=mode)))
        for mode in (ModeKeys.TRAIN, ModeKeys.EVAL)
        for step in trial.tensor(name).steps(mode=mode)
    ]
    return pd.DataFrame(rows, columns=["phase", "step", "loss"])


def _output(aws: Aws, job_name: str, name: str) -> bytes | None:
    """One file of what a job left in its output folder; None if there is none."""
    model = describe_job(aws, job_name).get("ModelArtifacts", {}).get("S3ModelArtifacts", "")
    if not model.endswith("model.tar.gz"):
        return None
    bucket, _, key = model.removeprefix("s3://").removesuffix("model.tar.gz").partition("/")
    s3, key = aws.client("s3"), f"{key}output.tar.gz"
    if s3.list_objects_v2(Bucket=bucket, Prefix=key)["KeyCount"] == 0:  # the script left no output
        return None
    body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        found = [member for member in tar.getnames() if member.rpartition("/")[2] == name]
        return tar.extractfile(found[0]).read() if found else None
