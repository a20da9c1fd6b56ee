"""Debugger and profiler configuration for the SDK: which rules watch a training job, what is saved for them, what they said.

SageMaker Debugger is closed to new customers since 2026-07-30, and AWS's PyTorch images from 2.1 on come without smdebug: there our own
recorder watches (docs/decisions/0016-who-watches-a-job.md). Rule names, parameters and defaults: SageMaker developer guide, "List of
Debugger Built-in Rules".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from opml.core import judge
from opml.core.config import TrainConfig
from opml.core.hook_collections import collections
from opml.core.sick import RECIPES
from opml.verdicts import job_record, losses, open_trial, rule_summary, verdicts

if TYPE_CHECKING:
    from sagemaker.debugger import CollectionConfig, DebuggerHookConfig, ProfilerConfig, Rule

    from opml.aws import Aws

# Notebooks know this one room; reading what was found is next door, and the five illnesses are the cargo's.
__all__ = [
    "RECIPES",
    "course_rules",
    "has_smdebug",
    "hook_config",
    "job_record",
    "losses",
    "merge_collections",
    "open_trial",
    "profiler_config",
    "rule_summary",
    "steps_of",
    "verdicts",
    "watching",
]

RULES = ("vanishing_gradient", "overfit", "overtraining", "poor_weight_initialization", "loss_not_decreasing")
PROFILER_RULES = ("LowGPUUtilization", "ProfilerReport")
SMDEBUG_REQUIREMENTS = ("smdebug==1.0.34", "protobuf==3.20.3", "numpy>=1.26,<2.3", "pandas", "psutil", "requests", "six", "setuptools<81")
OF_THE_RULES = {"save_interval": "500"}  # what a rule of the SDK adds to each of its collections


def has_smdebug(image_uri: str) -> bool:
    """Whether an AWS PyTorch training image comes with smdebug: those of PyTorch 1.3 to 2.0; unknown images count as without."""
    found = re.search(r"pytorch-training:(\d+)\.(\d+)", image_uri)
    return found is not None and (1, 3) <= (int(found[1]), int(found[2])) <= (2, 0)


def watching(aws: Aws, image_uri: str, *, smdebug_installed: bool = False, steps: tuple[int, int, int] | None = None) -> dict:
    """Options of an estimator by which its job is watched, chosen by the image; says which way in one line.

    With smdebug the five rules of the course are SageMaker's to evaluate. Without it the hook is off and the profiler's rules remain;
    the training script's own recorder (setting ``record``, on by default) finds what the five would, and :func:`rule_summary` reads it.

    Parameters
    ----------
    smdebug_installed : bool
        The job's requirements.txt shall bring it (:data:`SMDEBUG_REQUIREMENTS`) where the image does not.
    steps : (int, int, int), optional
        Of training and of validation in one epoch, and epochs (:func:`steps_of`): each loss is saved, and the rules count epochs.
        AWS's defaults count single saved steps.
    """
    options = {"profiler_config": profiler_config()}
    if not (has_smdebug(image_uri) or smdebug_installed):
        print(f"{_tag(image_uri)} has no smdebug: our own recorder watches the job, the hook is off", flush=True)
        machine = [rule for rule in course_rules() if type(rule).__name__ == "ProfilerRule"]
        return {**options, "rules": machine, "debugger_hook_config": False}
    print(f"{_tag(image_uri)} {'has' if has_smdebug(image_uri) else 'gets'} smdebug: SageMaker Debugger watches the job", flush=True)
    if not has_smdebug(image_uri):
        options["requirements"] = SMDEBUG_REQUIREMENTS
    hook = hook_config(aws, train_interval=1) if steps else hook_config(aws)
    return {**options, "rules": course_rules(steps), "debugger_hook_config": hook}


def steps_of(config: TrainConfig, train_images: int, valid_images: int) -> tuple[int, int, int]:
    """Steps of training and of validation in one epoch, on one instance, and the number of epochs."""
    return -(-train_images // config.batch_size), -(-valid_images // config.batch_size), config.epochs


def _tag(image_uri: str) -> str:
    return "PyTorch image " + image_uri.rpartition(":")[2]


def course_rules(steps: tuple[int, int, int] | None = None) -> list[Rule]:
    """Five rules on what the network learns, two on what the machine does.

    The rules come without their own collections: a collection with ``save_interval`` 500, which a rule adds, would beat the
    hook's intervals, and a short job would save almost no loss. :func:`hook_config` names all collections instead.

    Parameters
    ----------
    steps : (int, int, int), optional
        Of :func:`steps_of`: thresholds that count epochs instead of AWS's defaults.
    """
    from sagemaker.debugger import ProfilerRule, Rule, rule_configs

    thresholds = judge.parameters(*steps) if steps else {}
    rules = []
    for name in RULES:
        rule = {**getattr(rule_configs, name)(), "CollectionConfigurations": []}
        aws_name = rule["DebugRuleConfiguration"]["RuleParameters"]["rule_to_invoke"]
        rules.append(Rule.sagemaker(rule, rule_parameters=thresholds.get(aws_name) or None))
    return rules + [ProfilerRule.sagemaker(getattr(rule_configs, name)()) for name in PROFILER_RULES]


def hook_config(
    aws: Aws, train_interval: int = 10, eval_interval: int = 1, also: Mapping[str, Mapping[str, str]] | None = None
) -> DebuggerHookConfig:
    """What the job saves for the rules, and where.

    Losses are saved every few steps, gradients and the inputs of ReLU layers far less often (:mod:`opml.core.hook_collections`).

    Parameters
    ----------
    train_interval, eval_interval : int
        Steps between two saved losses, in training and in evaluation.
    also : mapping
        Further collections, or parameters of those above: name -> parameters. They win.
    """
    from sagemaker.debugger import DebuggerHookConfig

    # No hook_parameters: smdebug would add their intervals to every collection, and save all inputs to ReLU at each step.
    saved = collections(train_interval, eval_interval)
    return DebuggerHookConfig(s3_output_path=aws.uri("debug"), collection_configs=merge_collections(saved, also or {}))


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
