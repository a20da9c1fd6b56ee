"""What was recorded of one training job: tensors by name and step, times by phase, samples of the system.

Names are smdebug's (``CrossEntropyLoss_output_0``, ``gradient/ResNet_fc.weight``, ``layer1.0.relu_input_0``), whichever source filled
the record, so that a rule does not know where its series come from.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

# numpy looks at the machine's numbers once, and warns if training has by then told the processor to flush the tiniest to 0.
_ = np.finfo(np.float32), np.finfo(np.float64)
TRAIN, EVAL, PREDICT, GLOBAL = "TRAIN", "EVAL", "PREDICT", "GLOBAL"  # smdebug's mode names
MODES = (TRAIN, EVAL, PREDICT, GLOBAL)
SAMPLE = 4096  # elements that the percentiles of a large tensor are taken from: sorting 2 million weights would cost a training step
# smdebug's default collections, by the regular expressions that they are filled by.
COLLECTIONS = {
    "losses": r"[Ll]oss_(?!input).*output",
    "gradients": r"^gradient/",
    "weights": r"^(?!gradient/).*weight$",
    "biases": r"^(?!gradient/).*bias$",
    "relu_input": r".*relu_input",
    "relu_output": r".*relu_output",
}


@dataclass(frozen=True)
class Summary:
    """Statistics of one tensor at one step, over its finite and other elements alike; None where they were not recorded.

    Attributes
    ----------
    std : the standard deviation (divided by the size); nan where an element is not finite.
    abs_mean, l2 : mean of the absolute values; square root of the sum of squares.
    zeros, nan, inf, size : counts of elements.
    p5, p95 : percentiles, of a sample of at most ``SAMPLE`` elements.
    active : for each neuron (a channel, of feature maps) the share of its samples that are above 0.
    """

    mean: float | None = None
    std: float | None = None
    min: float | None = None
    max: float | None = None
    abs_mean: float | None = None
    l2: float | None = None
    zeros: int | None = None
    nan: int | None = None
    inf: int | None = None
    size: int | None = None
    p5: float | None = None
    p95: float | None = None
    active: tuple[float, ...] | None = None


class System(NamedTuple):
    """One sample of a machine: time in s since 1970, instance, part (``cpu0``, ``gpu0``, ``memory``, ...), dimension, value."""

    timestamp: float
    instance: str
    kind: str
    dimension: str
    value: float


class Phase(NamedTuple):
    """How long one phase of a step took; ``phase`` is loading, forward, backward, optimizer, or step for the whole.

    ``step`` is the global step; see :class:`opml.core.sources.ProfilerSource` for where that is not known.
    """

    step: int
    mode: str
    phase: str
    start: float
    seconds: float
    instance: str = "algo-1"


class Point(NamedTuple):
    """One number of a series: global step, mode, step within the mode, value."""

    step: int
    mode: str
    mode_step: int
    value: float


Value = np.ndarray | Summary | Callable[[], np.ndarray]


@dataclass
class Record:
    """Series of one training job; it grows while the job runs, and ``finished`` says that nothing more will come.

    Attributes
    ----------
    times : when a global step was saved, s since 1970.
    now : when the source was last read, s since 1970.
    facts : what is known of the job as a whole: ``loaders`` (processes or threads, of one process that trains) and the ``cores`` that it
        has, ``instance`` (that recorded) and ``instances`` (of the job), ``device``, ``batch_size``.
    """

    collections: dict[str, list[str]] = field(default_factory=dict)
    system: list[System] = field(default_factory=list)
    phases: list[Phase] = field(default_factory=list)
    times: dict[int, float] = field(default_factory=dict)
    now: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    finished: bool = False
    _series: dict[str, dict[int, Value]] = field(default_factory=dict)
    _summaries: dict[tuple[str, int], Summary] = field(default_factory=dict)
    _modes: dict[int, tuple[str, int]] = field(default_factory=dict)

    def add(self, name: str, mode: str, step: int, value: Value, mode_step: int | None = None) -> None:
        """Put a tensor's value at a global step, its :class:`Summary`, or a function that reads the value when a rule asks for it.

        Raises
        ------
        ValueError : ``mode`` is none of smdebug's.
        """
        if mode not in MODES:
            raise ValueError(f"unknown mode {mode!r}: it is one of {', '.join(MODES)}")
        if name not in self._series:
            self._series[name] = {}
            for collection in (key for key, regex in COLLECTIONS.items() if re.search(regex, name)):
                self.collect(collection, name)
        self._series[name][step] = value
        self._summaries.pop((name, step), None)
        self._modes.setdefault(step, (mode, step if mode_step is None else mode_step))

    def collect(self, collection: str, *names: str) -> None:
        """Put names into a collection."""
        members = self.collections.setdefault(collection, [])
        members.extend(name for name in names if name not in members)

    def names(self, regex: str | None = None, collection: str | None = None) -> list[str]:
        """Names of recorded tensors; ``regex`` is searched anywhere in the name, as smdebug does."""
        names: Iterable[str] = self._series
        if regex is not None:
            names = (name for name in names if re.search(regex, name))
        if collection is not None:
            members = set(self.collections.get(collection, ()))
            names = (name for name in names if name in members)
        return sorted(names)

    def steps(self, name: str | None = None, mode: str | None = None) -> list[int]:
        """Global steps, ascending, at which ``name`` (or anything) was recorded in ``mode`` (or any)."""
        steps = self._modes if name is None else self._series.get(name, ())
        return sorted(step for step in steps if mode in (None, GLOBAL) or self._modes[step][0] == mode)

    def mode(self, step: int) -> str:
        """The mode of a global step."""
        return self._modes[step][0]

    def mode_step(self, step: int) -> int:
        """The number of a global step within its mode."""
        return self._modes[step][1]

    def places(self) -> dict[tuple[str, int], int]:
        """The global step of each (mode, step within the mode) at which anything was recorded."""
        return {place: step for step, place in self._modes.items()}

    def has(self, name: str, step: int) -> bool:
        """Whether ``name`` was recorded at ``step``."""
        return step in self._series.get(name, ())

    def value(self, name: str, step: int) -> np.ndarray | None:
        """The tensor itself; None where only its summary was recorded."""
        value = self._series[name][step]
        if isinstance(value, Summary):
            return None
        return np.asarray(value() if callable(value) else value)

    def summary(self, name: str, step: int) -> Summary:
        """The tensor's statistics: as recorded, or computed once."""
        value = self._series[name][step]
        if isinstance(value, Summary):
            return value
        if (name, step) not in self._summaries:
            self._summaries[name, step] = summarise(self.value(name, step))
        return self._summaries[name, step]

    def points(self, name: str, mode: str | None = None) -> list[Point]:
        """The scalars recorded under ``name``, by global step; tensors of more than one element are none, and left out."""
        found = []
        for step in self.steps(name, mode):
            summary = self.summary(name, step)
            if summary.size == 1 and summary.mean is not None:
                found.append(Point(step, *self._modes[step], summary.mean))
        return found


def summarise(array: np.ndarray) -> Summary:
    """The statistics of one tensor, summed in double precision."""
    flat = np.asarray(array).reshape(-1).astype(np.float64)
    if flat.size == 0:
        return Summary(size=0)
    absolute = np.abs(flat)
    with np.errstate(invalid="ignore", over="ignore"):
        low, high = np.percentile(sample(flat), (5, 95))
        return Summary(
            mean=float(flat.mean()), std=float(flat.std()), min=float(flat.min()), max=float(flat.max()),
            abs_mean=float(absolute.mean()), l2=float(np.sqrt((absolute * absolute).sum())),
            zeros=int((flat == 0).sum()), nan=int(np.isnan(flat).sum()), inf=int(np.isinf(flat).sum()), size=int(flat.size),
            p5=float(low), p95=float(high), active=activity(np.asarray(array)),
        )  # fmt: skip


def sample(flat: np.ndarray) -> np.ndarray:
    """At most ``SAMPLE`` elements, evenly spread: the same ones in every source."""
    return flat[:: stride(flat.size)]


def stride(size: int) -> int:
    """The distance of sampled elements. It shares no factor with the size: a multiple of 9 would see one corner of all 3 x 3 kernels."""
    step = -(-size // SAMPLE)
    while math.gcd(step, size) > 1:
        step += 1
    return step


def activity(array: np.ndarray) -> tuple[float, ...] | None:
    """For each neuron the share of samples above 0: [samples, neurons] or [samples, channels, ...]; None for other shapes."""
    if array.ndim < 2:
        return None
    return tuple((array > 0).mean(axis=(0, *range(2, array.ndim))).tolist())
