"""Profiler rules about steps, and the summaries: outliers, a slow start, loaders, use of the system, time by phase.

*Equivalent, not identical* to SageMaker's: see :mod:`opml.core.rules_system`.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from opml.core.records import Phase, Record, System
from opml.core.rule_spec import Finding, NoData, NotHere, Parameter, Quiet, RuleSpec, count, number
from opml.core.rule_spec import mode as mode_name

MANY = 100  # steps of one phase, below which their spread says little


def step_outlier(record: Record, stddev: float, mode: str | None, n_outliers: int) -> Finding | Quiet:
    """More than ``n_outliers`` steps of an instance and mode lasted longer than the mean plus ``stddev`` standard deviations.

    Judged after each step beyond the hundredth, over all steps until then. The documentation also says "smaller"; only larger counts.
    """
    groups: dict[tuple[str, str], list[Phase]] = defaultdict(list)
    for phase in record.phases:
        if phase.phase == "step" and mode in (None, phase.mode):
            groups[phase.instance, phase.mode].append(phase)
    longest = max((len(group) for group in groups.values()), default=0)
    if longest <= MANY:
        raise NoData(f"times of {longest} steps were recorded, and the rule judges after more than {MANY}")
    fired, figures = [], {}
    for (instance, name), group in groups.items():
        if len(group) > MANY:
            seconds = np.array([phase.seconds for phase in group])
            figures[f"{instance} {name}"] = _step_figures(group, seconds, stddev)
            index, found = _outliers_at(seconds, stddev, n_outliers)
            if index is not None:
                text = f"{found} steps of {name} on {instance} lasted over {stddev:g} standard deviations longer than the mean"
                fired.append(Finding(group[index].step, text))
    return min(fired, key=lambda finding: finding.step)._replace(figures=figures) if fired else Quiet(figures)


def _outliers_at(seconds: np.ndarray, stddev: float, n_outliers: int) -> tuple[int | None, int]:
    """The first step at which too many were outliers, and how many."""
    numbers = np.arange(1, len(seconds) + 1)
    means = seconds.cumsum() / numbers
    spreads = np.sqrt(np.maximum((seconds**2).cumsum() / numbers - means**2, 0))
    for end in range(MANY + 1, len(seconds) + 1):
        found = int((seconds[:end] > means[end - 1] + stddev * spreads[end - 1]).sum())
        if found > n_outliers:
            return end - 1, found
    return None, 0


def _step_figures(group: list[Phase], seconds: np.ndarray, stddev: float) -> dict[str, Any]:
    """AWS's keys: statistics in s, histogram, and the steps that were outliers."""
    limit = seconds.mean() + stddev * seconds.std()
    counts, edges = np.histogram(seconds, 50)
    outliers = [phase.step for phase, lasted in zip(group, seconds, strict=True) if lasted > limit]
    return {
        "step_stats": {"mean": float(seconds.mean()), "max": float(seconds.max()), "min": float(seconds.min()), **_percentiles(seconds)},
        "number_of_outliers": len(outliers),
        "phase": f"Step:ModeKeys.{group[0].mode}",
        "stddev": stddev,
        "probs": counts.tolist(),
        "binedges": edges.tolist(),
        "step_numbers": outliers[:MANY],
    }


def _percentiles(values: np.ndarray) -> dict[str, float]:
    return {f"p{q}": float(value) for q, value in zip((99, 95, 50), np.percentile(values, (99, 95, 50)), strict=True)}


def max_initialization_time(record: Record, threshold: float) -> Finding | Quiet:
    """The first step began more than ``threshold`` minutes after the first sample of the system, or has not begun by then."""
    steps = [phase for phase in record.phases if phase.phase == "step"]
    if not record.system:
        raise NoData("no samples of the system were recorded, so the start of the job is not known")
    start, last = min(record.system).timestamp, max(record.system).timestamp
    first = min((phase.start for phase in steps), default=None)
    waited = (last if first is None else first) - start
    figures = {"job_start": start, "job_end": last, "first_step_after": waited if first is not None else None}
    if waited > 60 * threshold:
        return Finding(steps[0].step if steps else None, f"the first step began {waited / 60:.1f} minutes after the start", figures)
    if first is None:
        raise NoData("no times of steps were recorded")
    return Quiet(figures)


def dataloader(record: Record, min_threshold: float, max_threshold: float, patience: int) -> Finding | Quiet:
    """The number of parallel loaders is below ``min_threshold`` % or above ``max_threshold`` % of the machine's cores.

    AWS takes the median of the loader processes seen at one time by its framework profiler; our recorder knows the number of loaders
    of its process (threads; none where the inputs are features that were computed once) and the cores that they have.
    """
    loaders, cores = record.facts.get("loaders"), record.facts.get("cores")
    if loaders is None or cores is None:
        raise NoData("the number of loaders was not recorded")
    if loaders == 0:
        raise NotHere("there are no loaders to count: each batch is loaded by the training process itself, or lies in memory as features")
    steps = sum(phase.phase == "step" for phase in record.phases)
    if steps <= patience:
        raise NoData(f"{steps} steps were recorded, and the rule judges after more than {patience}")
    share, figures = 100 * loaders / cores, {"dataloader_workers": loaders, "cores": cores}
    if min_threshold <= share <= max_threshold:
        return Quiet(figures)
    return Finding(record.phases[0].step, f"{loaders} loaders for {cores} cores ({share:.0f} %)", figures)


def overall_system_usage(record: Record) -> Quiet:
    """Never fires: for each instance the largest, 99th, 95th and 50th percentile and smallest value of each thing sampled."""
    if not record.system:
        raise NoData("no samples of the system were recorded")
    groups: dict[tuple[str, str], list[float]] = defaultdict(list)
    for sample in record.system:
        groups[sample.instance, _what(sample)].append(sample.value)
    figures: dict[str, Any] = defaultdict(dict)
    for (instance, what), values in sorted(groups.items()):
        figures[what][instance] = {"max": max(values), **_percentiles(np.array(values)), "min": min(values)}
    return Quiet(dict(figures))


def _what(sample: System) -> str:
    """AWS's names of the rows in this table."""
    names = {
        "CPUUtilization": "CPU", "GPUUtilization": "GPU", "GPUMemoryUtilization": "GPU memory", "I/OWaitPercentage": "I/O",
        "MemoryUsedPercent": "CPU memory",
    }  # fmt: skip
    return names.get(sample.dimension, "Network" if sample.kind == "network" else sample.dimension)


def overall_framework_metrics(record: Record) -> Quiet:
    """Never fires: seconds, and the share of all, that went into each phase of the steps, by mode."""
    if not record.phases:
        raise NoData("no times of steps were recorded")
    totals: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for phase in record.phases:
        totals[phase.mode][phase.phase] += phase.seconds
    return Quiet({"phase_seconds": {mode: dict(phases) for mode, phases in totals.items()}})


SPECS = (
    RuleSpec(
        "StepOutlier", "profiler",
        {"stddev": Parameter("3", number(0)), "mode": Parameter(None, mode_name), "n_outliers": Parameter("10", count())}, step_outlier,
        "See at which steps they are: at epochs' ends loaders start anew, at regular intervals something is saved.",
    ),
    RuleSpec(
        "MaxInitializationTime", "profiler", {"threshold": Parameter("20", number(0))}, max_initialization_time,
        "Use FastFile mode or fewer files: the job downloads all its data before the first step.",
    ),
    RuleSpec(
        "Dataloader", "profiler",
        {"min_threshold": Parameter("70", number(0)), "max_threshold": Parameter("200", number(0)), "patience": Parameter("10", count())},
        dataloader, "Set --workers to about the number of cores.",
    ),
    RuleSpec("OverallSystemUsage", "profiler", {}, overall_system_usage, ""),
    RuleSpec("OverallFrameworkMetrics", "profiler", {}, overall_framework_metrics, ""),
)  # fmt: skip
