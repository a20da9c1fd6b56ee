"""Profiler rules about the machine: is the GPU idle, and what is it waiting for?

Semantics and defaults are those of the live service, which its documentation gets wrong in places (``patience`` and ``gpu_threshold``):
they are confirmed by the reports that real jobs left. Samples within 0.02 s of one instance are one datapoint. *Equivalent, not
identical*: a rule speaks at the first datapoint after ``patience`` at which its condition holds, and is NotApplicable where AWS's says
NoIssuesFound: no GPU was sampled, one GPU has nothing to balance, or the job was over before ``patience``.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import NamedTuple

import numpy as np

from opml.core.records import Record
from opml.core.rule_spec import Finding, NoData, NotHere, Parameter, Quiet, RuleSpec, count, number

TOGETHER = 0.02  # seconds within which samples are one datapoint
CPU, IO_WAIT = "CPUUtilization", "I/OWaitPercentage"
GPU, GPU_MEMORY = "GPUUtilization", "GPUMemoryUtilization"


class Moment(NamedTuple):
    """One datapoint: time, and all that was sampled at it, by (part, dimension)."""

    timestamp: float
    values: dict[tuple[str, str], float]

    def of(self, dimension: str) -> list[float]:
        """The values of one dimension, of all parts that have it."""
        return [value for (_, what), value in self.values.items() if what == dimension]


def moments(record: Record) -> dict[str, list[Moment]]:
    """The datapoints of each instance, by time."""
    found: dict[str, list[Moment]] = defaultdict(list)
    for sample in sorted(record.system):
        mine = found[sample.instance]
        if not mine or sample.timestamp - mine[-1].timestamp > TOGETHER:
            mine.append(Moment(sample.timestamp, {}))
        mine[-1].values[sample.kind, sample.dimension] = sample.value
    return dict(found)


def _with_gpus(record: Record) -> dict[str, list[Moment]]:
    """Instances of which a GPU was sampled.

    Raises
    ------
    NoData : nothing was sampled. NotHere : no GPU was.
    """
    if not record.system:
        raise NoData("no samples of the system were recorded")
    found = {}
    for instance, points in moments(record).items():
        points = [moment for moment in points if moment.of(GPU)]
        if points:
            found[instance] = points
    if not found:
        raise NotHere("no GPU was sampled: this rule compares the GPU's work with the rest, and cannot fire on a CPU instance")
    return found


def _series(instances: dict[str, list[Moment]], dimension: str) -> dict[tuple[str, str], tuple[list[float], list[float]]]:
    """(times, values) of one dimension, by (instance, part)."""
    found: dict[tuple[str, str], tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for instance, points in instances.items():
        for moment in points:
            for (part, what), value in moment.values.items():
                if what == dimension:
                    found[instance, part][0].append(moment.timestamp)
                    found[instance, part][1].append(value)
    return dict(found)


def step_at(record: Record, timestamp: float) -> int | None:
    """The global step that was running at a time; None if no times of steps were recorded."""
    begun = sorted((phase.start, phase.step) for phase in record.phases if phase.phase == "step")
    place = bisect_right(begun, (timestamp, float("inf"))) - 1
    return begun[max(place, 0)][1] if begun else None


def _enough(counts: list[int], patience: int) -> None:
    if max(counts, default=0) <= patience:
        raise NoData(f"{max(counts, default=0)} datapoints were recorded, and the rule judges after more than {patience}")


def _bottleneck(
    record: Record, what: str, dimension: str, limit: float, threshold: float, gpu_threshold: float, patience: int
) -> Finding | Quiet:
    """A GPU that is idle while ``dimension`` is above ``limit``, in more than ``threshold`` % of the datapoints."""
    instances, figures, fired = _with_gpus(record), {}, []
    for instance, points in instances.items():
        idle = np.array([min(moment.of(GPU)) < gpu_threshold for moment in points])
        busy = np.array([max(moment.of(dimension), default=0.0) > limit for moment in points])
        numbers, both = np.arange(1, len(points) + 1), (idle & busy).cumsum()
        hits = np.flatnonzero((numbers > patience) & (100 * both > threshold * numbers))
        figures[instance] = {"low_gpu_utilization": int(idle.sum()), "bottlenecks": int(both[-1]), "datapoints": len(points)}
        if len(hits):
            first = int(hits[0])
            why = f"{both[first]} of {first + 1} datapoints of {instance}: a GPU below {gpu_threshold:g} %, {what} above {limit:g} %"
            fired.append((points[first].timestamp, why))
    _enough([len(points) for points in instances.values()], patience)
    return _answer(record, fired, figures)


def _answer(record: Record, fired: list[tuple[float, str]], figures: dict) -> Finding | Quiet:
    if not fired:
        return Quiet(figures)
    timestamp, why = min(fired)
    return Finding(step_at(record, timestamp), why, figures)


def cpu_bottleneck(record: Record, threshold: float, gpu_threshold: float, cpu_threshold: float, patience: int) -> Finding | Quiet:
    """Any GPU below ``gpu_threshold`` % while any core is above ``cpu_threshold`` %, in over ``threshold`` % of the datapoints."""
    return _bottleneck(record, "a CPU core", CPU, cpu_threshold, threshold, gpu_threshold, patience)


def io_bottleneck(record: Record, threshold: float, gpu_threshold: float, io_threshold: float, patience: int) -> Finding | Quiet:
    """Any GPU below ``gpu_threshold`` % while any core waits for I/O over ``io_threshold`` % of the time, as in CPUBottleneck."""
    return _bottleneck(record, "waiting for I/O", IO_WAIT, io_threshold, threshold, gpu_threshold, patience)


def _windows(values: list[float], patience: int, window: int) -> Iterator[tuple[int, np.ndarray]]:
    """(index, the last ``window`` values) of each datapoint after ``patience``."""
    array = np.array(values)
    for end in range(patience + 1, len(array) + 1):
        yield end - 1, array[max(0, end - window) : end]


def _each_gpu(record: Record, dimension: str, patience: int, judge: Callable[[list[float]], tuple[int, str] | None]) -> Finding | Quiet:
    """Judge each GPU's series; figures are its quartiles and percentiles."""
    series, figures, fired = _series(_with_gpus(record), dimension), {}, []
    _enough([len(values) for _, values in series.values()], patience)
    for (instance, part), (times, values) in series.items():
        found = judge(values)
        figures[f"{instance} {part}"] = {f"p{q}": float(np.percentile(values, q)) for q in (5, 25, 50, 75, 95)} | {"max": max(values)}
        if found:
            fired.append((times[found[0]], f"{part} of {instance}: {found[1]}"))
    return _answer(record, fired, figures)


def low_gpu_utilization(record: Record, threshold_p95: float, threshold_p5: float, window: int, patience: int) -> Finding | Quiet:
    """Of the last ``window`` values the 95th percentile is below ``threshold_p95``, or it is above and the 5th below ``threshold_p5``."""

    def judge(values: list[float]) -> tuple[int, str] | None:
        for index, last in _windows(values, patience, window):
            high, low = np.percentile(last, (95, 5))
            if high < threshold_p95:
                return index, f"used little: 95 % of its last {len(last)} values are below {high:.4g} %"
            if low < threshold_p5 and high > threshold_p95:
                return index, f"its use fluctuates between {low:.4g} % and {high:.4g} %"
        return None

    return _each_gpu(record, GPU, patience, judge)


def gpu_memory_increase(record: Record, increase: float, patience: int, window: int) -> Finding | Quiet:
    """The mean of a GPU's memory use over the last ``window`` datapoints is over ``increase`` points above that one datapoint earlier.

    Left as documented: AWS's code drops the last value of the earlier mean.
    """

    def judge(values: list[float]) -> tuple[int, str] | None:
        for end in range(max(patience, window) + 1, len(values) + 1):
            rise = float(np.mean(values[end - window : end]) - np.mean(values[end - window - 1 : end - 1]))
            if rise > increase:
                return end - 1, f"the mean of its memory use rose by {rise:.3g} points from one datapoint to the next"
        return None

    return _each_gpu(record, GPU_MEMORY, patience, judge)


def batch_size(
    record: Record, cpu_threshold_p95: float, gpu_threshold_p95: float, gpu_memory_threshold_p95: float, patience: int, window: int
) -> Finding | Quiet:
    """95th percentiles of CPU (mean of the cores), GPU and GPU memory are all below their thresholds: a larger batch would fit."""
    limits = {CPU: cpu_threshold_p95, GPU: gpu_threshold_p95, GPU_MEMORY: gpu_memory_threshold_p95}
    instances, figures, fired = _with_gpus(record), {}, []
    points = {name: [m for m in mine if all(m.of(d) for d in limits)] for name, mine in instances.items()}
    _enough([len(mine) for mine in points.values()], patience)
    for instance, mine in points.items():
        means = np.array([[np.mean(moment.of(dimension)) for dimension in limits] for moment in mine]).reshape(-1, 3)
        figures[instance] = dict(zip(limits, np.percentile(means, 95, axis=0).tolist(), strict=True)) if len(means) else {}
        for end in range(patience + 1, len(means) + 1):
            high = np.percentile(means[max(0, end - window) : end], 95, axis=0)
            if (high < list(limits.values())).all():
                text = ", ".join(f"{name} {value:.3g} %" for name, value in zip(("CPU", "GPU", "GPU memory"), high, strict=True))
                fired.append((mine[end - 1].timestamp, f"{instance} is used little (95th percentiles: {text})"))
                break
    return _answer(record, fired, figures)


def load_balancing(record: Record, threshold: float, patience: int) -> Finding | Quiet:
    """The Jensen-Shannon distance between the histograms of two GPUs' use is above ``threshold`` (natural logarithm, bins of 2 %).

    Left as documented: AWS's bins end at 98 %, and lose what is above.
    """
    found, figures, fired = moments(record), {}, []
    series = _series(_with_gpus(record), GPU)
    pairs = [pair for instance in found for pair in combinations(sorted(key for key in series if key[0] == instance), 2)]
    if not pairs:
        raise NotHere("of each instance one GPU was sampled: there is nothing to balance")
    _enough([len(series[one][1]) for one, _ in pairs], patience)
    for one, other in pairs:
        counts = [_counts(series[key][1]) for key in (one, other)]
        length = min(len(each) for each in counts)
        distances = _distances(counts[0][:length], counts[1][:length])
        figures[f"{one[0]} {one[1]} {other[1]}"] = {"distance": float(distances[-1])}
        hits = np.flatnonzero((np.arange(1, length + 1) > patience) & (distances > threshold))
        if len(hits):
            fired.append((series[one][0][hits[0]], f"{one[1]} and {other[1]} of {one[0]} are used differently ({distances[hits[0]]:.3g})"))
    return _answer(record, fired, figures)


def _counts(values: list[float]) -> np.ndarray:
    """The histogram after each value, [values, bins]."""
    bins = np.minimum(np.array(values) // 2, 49).astype(int)
    return np.eye(50)[bins].cumsum(axis=0)


def _distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    one, other = one / one.sum(axis=1, keepdims=True), other / other.sum(axis=1, keepdims=True)
    middle = (one + other) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [np.where(part > 0, part * np.log(part / middle), 0).sum(axis=1) for part in (one, other)]
    return np.sqrt(np.maximum(sum(parts) / 2, 0))


def _percent(default: str) -> Parameter:
    return Parameter(default, number(0, 100))


_PATIENCE, _WINDOW = {"patience": Parameter("1000", count())}, {"window": Parameter("500", count(1))}
SPECS = (
    RuleSpec(
        "CPUBottleneck", "profiler",
        {"threshold": _percent("50"), "gpu_threshold": _percent("10"), "cpu_threshold": _percent("90"), **_PATIENCE}, cpu_bottleneck,
        "More loader processes (--workers), smaller images on disk, or an instance with more cores for each GPU.",
    ),
    RuleSpec(
        "IOBottleneck", "profiler",
        {"threshold": _percent("50"), "gpu_threshold": _percent("10"), "io_threshold": _percent("50"), **_PATIENCE}, io_bottleneck,
        "Faster storage, or data that is copied to the instance before training; fewer, larger files.",
    ),
    RuleSpec(
        "LowGPUUtilization", "profiler", {"threshold_p95": _percent("70"), "threshold_p5": _percent("10"), **_WINDOW, **_PATIENCE},
        low_gpu_utilization, "A larger batch, more loader processes, or a smaller instance: an idle GPU costs as much as a busy one.",
    ),
    RuleSpec(
        "GPUMemoryIncrease", "profiler", {"increase": _percent("5"), **_PATIENCE, "window": Parameter("10", count(2))}, gpu_memory_increase,
        "Look for tensors that are kept over steps (losses summed without detach), or a batch that grows.",
    ),
    RuleSpec(
        "BatchSize", "profiler",
        {"cpu_threshold_p95": _percent("70"), "gpu_threshold_p95": _percent("70"), "gpu_memory_threshold_p95": _percent("70"), **_PATIENCE,
         **_WINDOW},
        batch_size, "Raise --batch_size, and the learning rate with it, or take a smaller instance.",
    ),
    RuleSpec(
        "LoadBalancing", "profiler", {"threshold": Parameter("0.2", number(0)), **_PATIENCE}, load_balancing,
        "Give each GPU the same number of samples of the same size.",
    ),
)  # fmt: skip
