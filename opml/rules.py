"""Debugger and profiler configuration for the SDK: which rules watch a training job, what is saved for them, what they said.

SageMaker Debugger is closed to new customers since 2026-07-30, and AWS's PyTorch images from 2.1 on come without smdebug: there our own
recorder watches (docs/decisions/0016-who-watches-a-job.md). Rule names, parameters and defaults: SageMaker developer guide, "List of
Debugger Built-in Rules".
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import pandas as pd

from opml.jobs import describe_job

if TYPE_CHECKING:
    from sagemaker.debugger import CollectionConfig, DebuggerHookConfig, ProfilerConfig, Rule

    from opml.aws import Aws

RULES = ("vanishing_gradient", "overfit", "overtraining", "poor_weight_initialization", "loss_not_decreasing")
PROFILER_RULES = ("LowGPUUtilization", "ProfilerReport")
SMDEBUG_REQUIREMENTS = ("smdebug==1.0.34", "protobuf==3.20.3", "numpy>=1.26,<2.3", "pandas", "psutil", "requests", "six")
OF_THE_RULES = {"save_interval": "500"}  # what a rule of the SDK adds to each of its collections
FINDINGS = "findings.json"  # what our recorder leaves in the job's output.tar.gz
COLUMNS = ["rule", "status", "details"]


def has_smdebug(image_uri: str) -> bool:
    """Whether an AWS PyTorch training image comes with smdebug: those of PyTorch 1.3 to 2.0; unknown images count as without."""
    found = re.search(r"pytorch-training:(\d+)\.(\d+)", image_uri)
    return found is not None and (1, 3) <= (int(found[1]), int(found[2])) <= (2, 0)


def watching(aws: Aws, image_uri: str, *, smdebug_installed: bool = False) -> dict:
    """Options of an estimator by which its job is watched, chosen by the image; says which way in one line.

    With smdebug the five rules of the course are SageMaker's to evaluate. Without it the hook is off and the profiler's rules remain;
    the training script's own recorder (setting ``record``, on by default) finds what the five would, and :func:`rule_summary` reads it.

    Parameters
    ----------
    smdebug_installed : bool
        The job's requirements.txt brings it (:data:`SMDEBUG_REQUIREMENTS`).
    """
    if has_smdebug(image_uri) or smdebug_installed:
        print(f"{_tag(image_uri)} has smdebug: SageMaker Debugger watches the job", flush=True)
        return {"rules": course_rules(), "debugger_hook_config": hook_config(aws), "profiler_config": profiler_config()}
    print(f"{_tag(image_uri)} has no smdebug: our own recorder watches the job, the hook is off", flush=True)
    machine = [rule for rule in course_rules() if type(rule).__name__ == "ProfilerRule"]
    return {"rules": machine, "debugger_hook_config": False, "profiler_config": profiler_config()}


def _tag(image_uri: str) -> str:
    return "PyTorch image " + image_uri.rpartition(":")[2]


def course_rules() -> list[Rule]:
    """Five rules on what the network learns, two on what the machine does.

    The rules come without their own collections: a collection with ``save_interval`` 500, which a rule adds, would beat the
    hook's intervals, and a short job would save almost no loss. :func:`hook_config` names all collections instead.
    """
    from sagemaker.debugger import ProfilerRule, Rule, rule_configs

    rules = [Rule.sagemaker({**getattr(rule_configs, name)(), "CollectionConfigurations": []}) for name in RULES]
    return rules + [ProfilerRule.sagemaker(getattr(rule_configs, name)()) for name in PROFILER_RULES]


def hook_config(
    aws: Aws, train_interval: int = 10, eval_interval: int = 1, also: Mapping[str, Mapping[str, str]] | None = None
) -> DebuggerHookConfig:
    """What the job saves for the rules, and where.

    Losses are saved every few steps, gradients and weights' inputs to ReLU at the first steps only: for ResNet-50 at 224 px the
    latter are 38 MB an image.

    Parameters
    ----------
    train_interval, eval_interval : int
        Steps between two saved losses, in training and in evaluation.
    also : mapping
        Further collections, or parameters of those above: name -> parameters. They win.
    """
    from sagemaker.debugger import DebuggerHookConfig

    losses = {"train.save_interval": str(train_interval), "eval.save_interval": str(eval_interval)}
    collections = {
        "losses": losses,
        "gradients": {"save_interval": str(train_interval)},
        "relu_input": {"include_regex": ".*relu_input", "save_steps": "0"},
    }
    return DebuggerHookConfig(
        s3_output_path=aws.uri("debug"), hook_parameters=dict(losses), collection_configs=merge_collections(collections, also or {})
    )


def merge_collections(*groups: Mapping[str, Mapping[str, str]] | Iterable[CollectionConfig]) -> list[CollectionConfig]:
    """Each collection once, with the parameters of all groups; later groups win.

    The SDK would send a name twice, in any order, where a rule and the hook both have it, and smdebug takes the last. And a plain
    ``save_interval`` beats intervals by mode: the 500 that rules bring along is left out where anything else is said of when to save.

    Parameters
    ----------
    groups
        Names with parameters, or the SDK's ``CollectionConfig`` objects (``rule.collection_configs``).
    """
    from sagemaker.debugger import CollectionConfig

    merged: dict[str, dict[str, str]] = {}
    for group in groups:
        for name, parameters in _pairs(group):
            merged.setdefault(name, {}).update(parameters)
    return [CollectionConfig(name, _without_rules_default(parameters)) for name, parameters in merged.items()]


def _pairs(group) -> Iterable[tuple[str, Mapping[str, str]]]:
    if isinstance(group, Mapping):
        return group.items()
    return [(config.name, config.parameters or {}) for config in group]


def _without_rules_default(parameters: dict[str, str]) -> dict[str, str]:
    others = any(name.endswith(("save_interval", "save_steps")) and name != "save_interval" for name in parameters)
    return {name: value for name, value in parameters.items() if not (others and OF_THE_RULES.get(name) == value)}


def profiler_config(milliseconds: int = 500) -> ProfilerConfig:
    """Sample CPU, GPU, memory and I/O of each instance every ``milliseconds`` (100, 200, 500, 1000, 5000 or 60000)."""
    from sagemaker.debugger import ProfilerConfig

    return ProfilerConfig(system_monitor_interval_millis=milliseconds)


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
    for finding in _findings(aws, job):
        said.setdefault(finding["rule"], (finding["status"], str(finding.get("details") or finding.get("why") or "").strip()))
    return pd.DataFrame([(name, *answer) for name, answer in said.items()], columns=COLUMNS)


def _findings(aws: Aws, job: dict) -> list[dict]:
    """What our recorder left in the job's output; nothing if it did not watch."""
    model = job.get("ModelArtifacts", {}).get("S3ModelArtifacts", "")
    if not model.endswith("model.tar.gz"):
        return []
    bucket, _, key = model.removeprefix("s3://").removesuffix("model.tar.gz").partition("/")
    s3, key = aws.client("s3"), f"{key}output.tar.gz"
    if s3.list_objects_v2(Bucket=bucket, Prefix=key)["KeyCount"] == 0:  # the script left no output
        return []
    body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        names = [name for name in tar.getnames() if name.rpartition("/")[2] == FINDINGS]
        return json.load(tar.extractfile(names[0])) if names else []
