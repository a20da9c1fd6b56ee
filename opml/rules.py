"""Debugger and profiler configuration for the SDK: which rules watch a training job, and what is saved for them.

SageMaker Debugger is closed to new customers since 2026-07-30: an account that never used it may be refused the rules.
Rule names, parameters and defaults: SageMaker developer guide, "List of Debugger Built-in Rules".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from opml.jobs import describe_job

if TYPE_CHECKING:
    from sagemaker.debugger import DebuggerHookConfig, ProfilerConfig, Rule

    from opml.aws import Aws

RULES = ("vanishing_gradient", "overfit", "overtraining", "poor_weight_initialization", "loss_not_decreasing")
PROFILER_RULES = ("LowGPUUtilization", "ProfilerReport")


def course_rules() -> list[Rule]:
    """Five rules on what the network learns, two on what the machine does.

    The rules come without their own collections: a collection with ``save_interval`` 500, which a rule adds, would beat the
    hook's intervals, and a short job would save almost no loss. :func:`hook_config` names all collections instead.
    """
    from sagemaker.debugger import ProfilerRule, Rule, rule_configs

    rules = [Rule.sagemaker({**getattr(rule_configs, name)(), "CollectionConfigurations": []}) for name in RULES]
    return rules + [ProfilerRule.sagemaker(getattr(rule_configs, name)()) for name in PROFILER_RULES]


def hook_config(aws: Aws, train_interval: int = 10, eval_interval: int = 1) -> DebuggerHookConfig:
    """What the job saves for the rules, and where.

    Losses are saved every few steps, gradients and weights' inputs to ReLU at the first steps only: for ResNet-50 at 224 px the
    latter are 38 MB an image.

    Parameters
    ----------
    train_interval, eval_interval : int
        Steps between two saved losses, in training and in evaluation.
    """
    from sagemaker.debugger import CollectionConfig, DebuggerHookConfig

    losses = {"train.save_interval": str(train_interval), "eval.save_interval": str(eval_interval)}
    collections = {
        "losses": losses,
        "gradients": {"save_interval": str(train_interval)},
        "relu_input": {"include_regex": ".*relu_input", "save_steps": "0"},
    }
    return DebuggerHookConfig(
        s3_output_path=aws.uri("debug"),
        hook_parameters=dict(losses),
        collection_configs=[CollectionConfig(name, parameters) for name, parameters in collections.items()],
    )


def profiler_config(milliseconds: int = 500) -> ProfilerConfig:
    """Sample CPU, GPU, memory and I/O of each instance every ``milliseconds`` (100, 200, 500, 1000, 5000 or 60000)."""
    from sagemaker.debugger import ProfilerConfig

    return ProfilerConfig(system_monitor_interval_millis=milliseconds)


def rule_summary(aws: Aws, job_name: str) -> pd.DataFrame:
    """What the rules said of a job: columns rule, status, details. Rules that nobody evaluated say so.

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
    return pd.DataFrame([(name, *answer) for name, answer in said.items()], columns=["rule", "status", "details"])
