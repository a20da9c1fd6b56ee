"""How a tuning job chooses its points: at random, from a grid, or by optuna (Bayesian, Hyperband); and which trials are hopeless.

Pure: nothing here knows of jobs. optuna (0.2 s, 30 MB) is imported only when a tuning job asks for what it does.
"""

import itertools
import math
import random
import statistics
from collections.abc import Iterable, Sequence
from typing import Protocol

WIDE = 100.0  # a positive range over more than two orders of magnitude is searched by its logarithm if the scaling is Auto
EARLIEST = 3  # trials that must have ended before the median rule stops one: of two, every second one would be "below the median"
STARTUP = 4  # points drawn at random before the model of the Bayesian strategy is asked
REDUCTION = 3  # of the trials of a rung, Hyperband keeps one in three, as in the paper (Li et al. 2018)

Point = dict[str, str]


class Search(Protocol):
    """What a tuning job asks of its strategy; trials are numbered from 0 in the order of their points."""

    def ask(self) -> Point:
        """The next point, as the texts that the API carries."""

    def tell(self, number: int, value: float | None) -> None:
        """How trial ``number`` ended; None if it has no objective."""

    def is_hopeless(self, number: int, values: Sequence[float]) -> bool:
        """Whether a running trial with these objective values so far is not worth its time."""


def scaling_of(entry: dict) -> str:
    """``ScalingType``; for Auto, the logarithm of wide positive ranges only."""
    scaling = entry.get("ScalingType", "Auto")
    if scaling != "Auto":
        return scaling
    low, high = float(entry["MinValue"]), float(entry["MaxValue"])
    return "Logarithmic" if low > 0 and high / low > WIDE else "Linear"


def sample(ranges: dict, rng: random.Random) -> Point:
    """One random point of ``ParameterRanges``."""
    point = {entry["Name"]: rng.choice(entry["Values"]) for entry in ranges.get("CategoricalParameterRanges") or []}
    for entry in ranges.get("ContinuousParameterRanges") or []:
        point[entry["Name"]] = repr(_between(entry, rng))
    for entry in ranges.get("IntegerParameterRanges") or []:
        point[entry["Name"]] = str(round(_between(entry, rng)))
    return point


def _between(entry: dict, rng: random.Random) -> float:
    low, high = float(entry["MinValue"]), float(entry["MaxValue"])
    scaling = scaling_of(entry)
    if scaling == "Logarithmic":
        value = math.exp(rng.uniform(math.log(low), math.log(high)))
    elif scaling == "ReverseLogarithmic":  # dense towards 1, for values such as 0.9 ... 0.999
        value = 1 - math.exp(rng.uniform(math.log(1 - high), math.log(1 - low)))
    else:
        value = rng.uniform(low, high)
    return min(max(value, low), high)  # rounding must not leave the range


def grid(ranges: dict) -> list[Point]:
    """All combinations of the categorical values, the last parameter changing fastest."""
    entries = ranges.get("CategoricalParameterRanges") or []
    names = [entry["Name"] for entry in entries]
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*(entry["Values"] for entry in entries))]


def is_below_median(values: Sequence[float], others: Iterable[Sequence[float]], maximize: bool) -> bool:
    """AWS's early stopping: is the last value worse than the median of the other trials' running averages up to the same epoch?

    Needs ``EARLIEST`` others that came as far.
    """
    epoch = len(values)
    averages = [statistics.fmean(other[:epoch]) for other in others if len(other) >= epoch > 0]
    if len(averages) < EARLIEST:
        return False
    middle = statistics.median(averages)
    return values[-1] < middle if maximize else values[-1] > middle


class RandomSearch:
    """Points drawn independently."""

    def __init__(self, ranges: dict, seed: int):
        self._ranges, self._rng = ranges, random.Random(seed)

    def ask(self) -> Point:
        """See ``Search``."""
        return sample(self._ranges, self._rng)

    def tell(self, number: int, value: float | None) -> None:
        """Results change nothing."""

    def is_hopeless(self, number: int, values: Sequence[float]) -> bool:
        """Never: the median rule is the tuning job's own."""
        return False


class GridSearch(RandomSearch):
    """Each combination once."""

    def __init__(self, ranges: dict):
        self._points = iter(grid(ranges))

    def ask(self) -> Point:
        """See ``Search``; StopIteration when all have been asked for."""
        return next(self._points)


class OptunaSearch:
    """Bayesian: a tree-structured Parzen estimator. Hyperband: the same points, and brackets of successive halving that stop trials."""

    def __init__(self, ranges: dict, seed: int, *, maximize: bool, hyperband: dict | None = None):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._optuna, self._space = optuna, _distributions(ranges, optuna.distributions)
        self._reverse = {entry["Name"] for entry in _numeric(ranges) if scaling_of(entry) == "ReverseLogarithmic"}
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP, constant_liar=True)
        direction = "maximize" if maximize else "minimize"
        pruner = optuna.pruners.NopPruner() if hyperband is None else _hyperband(optuna.pruners, hyperband)
        self._study = optuna.create_study(study_name="tuning", sampler=sampler, pruner=pruner, direction=direction)  # brackets go by name
        self._trials: list[optuna.Trial] = []
        self._reported: dict[int, int] = {}

    def ask(self) -> Point:
        """See ``Search``."""
        trial = self._study.ask(self._space)
        self._trials.append(trial)
        return {name: self._text(name, value) for name, value in trial.params.items()}

    def tell(self, number: int, value: float | None) -> None:
        """See ``Search``."""
        state = self._optuna.trial.TrialState
        if value is None or math.isnan(value):
            self._study.tell(self._trials[number], state=state.FAIL)
        else:
            self._study.tell(self._trials[number], value, state=state.COMPLETE)

    def is_hopeless(self, number: int, values: Sequence[float]) -> bool:
        """Whether Hyperband halves the trial away; a value counts as one unit of resource."""
        trial = self._trials[number]
        for step in range(self._reported.get(number, 0), len(values)):
            trial.report(values[step], step + 1)
            self._reported[number] = step + 1
            if trial.should_prune():
                return True
        return False

    def seed_with(self, point: Point, value: float) -> None:
        """A result of an earlier tuning job, if its point lies in the ranges of this one."""
        params = {name: self._number(name, point[name]) for name in self._space if name in point}
        if len(params) == len(self._space) and all(_holds(self._space[name], params[name]) for name in params):
            self._study.add_trial(self._optuna.trial.create_trial(params=params, distributions=self._space, value=value))

    def _text(self, name: str, value) -> str:
        if isinstance(value, str):
            return value
        return repr(1 - value) if name in self._reverse else repr(value)

    def _number(self, name: str, text: str):
        kind = self._optuna.distributions
        space = self._space[name]
        if isinstance(space, kind.CategoricalDistribution):
            return text
        if isinstance(space, kind.IntDistribution):
            return round(float(text))
        return 1 - float(text) if name in self._reverse else float(text)


def _numeric(ranges: dict) -> list[dict]:
    return [*(ranges.get("ContinuousParameterRanges") or []), *(ranges.get("IntegerParameterRanges") or [])]


def _distributions(ranges: dict, kind) -> dict:
    space = {entry["Name"]: kind.CategoricalDistribution(entry["Values"]) for entry in ranges.get("CategoricalParameterRanges") or []}
    for entry in ranges.get("ContinuousParameterRanges") or []:
        low, high, scaling = float(entry["MinValue"]), float(entry["MaxValue"]), scaling_of(entry)
        if scaling == "ReverseLogarithmic":  # searched as 1 - x by its logarithm
            low, high = 1 - high, 1 - low
        space[entry["Name"]] = kind.FloatDistribution(low, high, log=scaling != "Linear")
    for entry in ranges.get("IntegerParameterRanges") or []:
        low, high = int(entry["MinValue"]), int(entry["MaxValue"])
        space[entry["Name"]] = kind.IntDistribution(low, high, log=scaling_of(entry) == "Logarithmic")
    return space


def _hyperband(pruners, config: dict):
    return pruners.HyperbandPruner(config.get("MinResource") or 1, config.get("MaxResource") or "auto", REDUCTION)


def _holds(space, value) -> bool:
    if hasattr(space, "choices"):
        return value in space.choices
    return space.low <= value <= space.high


def make(strategy: str, ranges: dict, seed: int, *, maximize: bool, hyperband: dict | None = None) -> Search:
    """The search of a strategy: Random, Grid, Bayesian or Hyperband (``hyperband`` is its configuration)."""
    if strategy == "Random":
        return RandomSearch(ranges, seed)
    if strategy == "Grid":
        return GridSearch(ranges)
    return OptunaSearch(ranges, seed, maximize=maximize, hyperband=(hyperband or {}) if strategy == "Hyperband" else None)


def fault(strategy: str, config: dict, ranges: list[dict]) -> str | None:
    """What AWS refuses in a tuning job's ranges and limits, or None; ``ranges`` has those of each training job definition."""
    limit = config["ResourceLimits"].get("MaxNumberOfTrainingJobs")
    if strategy == "Grid":
        if any(_numeric(entry) for entry in ranges):
            return "The Grid strategy searches CategoricalParameterRanges only: use them alone, or another strategy."
        size = sum(len(grid(entry)) for entry in ranges)
        if limit not in (None, size):
            return f"MaxNumberOfTrainingJobs is {limit}, but this grid has {size} combinations: omit it, or give {size}."
    elif limit is None:
        return f"MaxNumberOfTrainingJobs is required for the {strategy} strategy."
    if strategy == "Hyperband" and config.get("TrainingJobEarlyStoppingType") == "Auto":
        return "TrainingJobEarlyStoppingType must be Off for the Hyperband strategy, which stops training jobs itself."
    return next((text for entry in ranges for text in map(_range_fault, _numeric(entry)) if text), None)


def _range_fault(entry: dict) -> str | None:
    name, scaling = entry["Name"], scaling_of(entry)
    try:
        low, high = float(entry["MinValue"]), float(entry["MaxValue"])
    except ValueError:
        return f"The range of hyperparameter {name} is not of numbers: {entry['MinValue']}, {entry['MaxValue']}."
    if low > high:
        return f"The range of hyperparameter {name} is empty: MinValue {entry['MinValue']} is above MaxValue {entry['MaxValue']}."
    if scaling == "Logarithmic" and low <= 0:
        return f"Logarithmic scaling of hyperparameter {name} needs a MinValue above 0, not {entry['MinValue']}."
    if scaling == "ReverseLogarithmic" and not (low >= 0 and high < 1):
        return f"ReverseLogarithmic scaling of hyperparameter {name} needs a range within 0 <= x < 1."
    return None
