"""The course's five rules: is the network learning, and something worth knowing?

Each is *equivalent, not identical* to SageMaker's: names, parameters, defaults and documented conditions are AWS's ("List of Debugger
Built-in Rules", SageMaker developer guide); AWS never published the source, so each docstring names what had to be chosen.
"""

from __future__ import annotations

import math

from opml.core.records import EVAL, GLOBAL, TRAIN, Point, Record
from opml.core.rule_spec import SELECTION, Finding, NoData, Parameter, Quiet, RuleSpec, count, flag, learning_steps, number, regex
from opml.core.rule_spec import mode as mode_name
from opml.core.rule_spec import select as selected


def vanishing_gradient(record: Record, threshold: float) -> Finding | Quiet:
    """Fires at the first step at which any gradient's mean absolute value is below ``threshold``.

    Equivalent, not identical: steps of EVAL are not looked at (smdebug saves no gradients there); nan is not below anything.
    """
    names = record.names(collection="gradients")
    looked = 0
    for step in learning_steps(record):
        for name in (name for name in names if record.has(name, step)):
            size = record.summary(name, step).abs_mean
            looked += size is not None
            if size is not None and size < threshold:
                return Finding(step, f"the mean absolute value of {name} is {size:.3g}, below {threshold:g}")
    if not looked:
        raise NoData("no tensors of the collection gradients were saved")
    return Quiet()


def loss_not_decreasing(
    record: Record,
    collection_names: list[str] | None,
    tensor_regex: list[str] | None,
    use_losses_collection: bool,
    num_steps: int,
    diff_percent: float,
    increase_threshold_percent: float,
    mode: str | None,
) -> Finding | Quiet:
    """Fires when a loss is not at least ``diff_percent`` % below what it was ``num_steps`` or more steps before.

    Documented: looked at every ``num_steps``, against the newest saved step at least ``num_steps`` behind, in steps of the mode.
    Equivalent, not identical: without ``mode`` the first of EVAL, TRAIN, GLOBAL that has two values counts (AWS's prose; its table says
    GLOBAL), and while the job runs TRAIN is not taken, because EVAL may still come; a rise above ``increase_threshold_percent`` and a
    fall too small both fire; with ``diff_percent`` 0 an equal loss fires; a loss that is nan fires. A single batch's loss is noisy: a
    ``num_steps`` of at least an epoch judges learning, a small one judges luck.
    """
    if use_losses_collection:
        collection_names = list(dict.fromkeys([*(collection_names or ()), "losses"]))
    fired, compared = [], 0
    for name in selected(record, collection_names, tensor_regex):
        for before, now in _comparisons(_series(record, name, mode), num_steps):
            compared += 1
            why = _not_decreasing(before, now, diff_percent, increase_threshold_percent)
            if why:
                fired.append(Finding(now.step, f"{name} {why}"))
                break
    if fired:
        return min(fired, key=lambda finding: finding.step)
    if not compared:
        raise NoData(f"no loss was saved at two steps that are {num_steps} steps apart")
    return Quiet()


def _series(record: Record, name: str, mode: str | None) -> list[Point]:
    """The loss in the given mode, else in the first that has two values; GLOBAL counts in global steps."""
    for wanted in (mode,) if mode else (EVAL, TRAIN, GLOBAL):
        points = record.points(name, wanted)
        if not mode and not record.finished and wanted != EVAL and any(point.mode == TRAIN for point in points):
            return []
        if wanted == GLOBAL:
            points = [point._replace(mode_step=point.step) for point in points]
        if len(points) >= 2:
            return points
    return []


def _comparisons(points: list[Point], num_steps: int):
    """Pairs (earlier, now): now is the first saved step at least ``num_steps`` after the last comparison."""
    due, back = (points[0].mode_step + num_steps if points else 0), 0
    for now in points:
        if now.mode_step < due:
            continue
        while points[back + 1].mode_step <= now.mode_step - num_steps:
            back += 1
        yield points[back], now
        due = now.mode_step + num_steps


def _not_decreasing(before: Point, now: Point, fall: float, rise: float) -> str | None:
    change = f"was {before.value:.4g} at step {before.step} and is {now.value:.4g}"
    if not math.isfinite(now.value):
        return change
    if now.value > before.value + abs(before.value) * rise / 100:
        return f"{change}: it rose by more than {rise:g} %"
    limit = before.value - abs(before.value) * fall / 100
    if now.value > limit or (fall == 0 and now.value == limit):
        return f"{change}: it did not fall by {fall:g} %"
    return None


def overfit(record: Record, tensor_regex: list[str] | None, start_step: int, patience: int, ratio_threshold: float) -> Finding | Quiet:
    """Fires when (mean validation loss - mean training loss) / mean training loss is above ``ratio_threshold`` ``patience`` times running.

    Equivalent, not identical: AWS does not say over what the means are taken. Here one comparison is made for each completed pass of
    EVAL: its mean against the mean of the TRAIN losses saved since the pass before; losses before ``start_step`` (global) do not count,
    nor a pass with no TRAIN loss before it; a training mean of 0 is above any ratio.
    """
    names = selected(record, None, tensor_regex) if tensor_regex else record.names(collection="losses")
    fired, compared = [], 0
    for name in names:
        running = 0
        for step, train, valid in _passes(record, name, start_step):
            compared += 1
            ratio = (valid - train) / train if train else math.inf * (valid > 0)
            running = running + 1 if ratio > ratio_threshold else 0
            if running >= patience:
                text = f"{name} is {valid:.4g} in validation and {train:.4g} in training: {100 * ratio:.0f} % more, {running} times running"
                fired.append(Finding(step, text))
                break
    if fired:
        return min(fired, key=lambda finding: finding.step)
    if not compared:
        raise NoData("no loss was saved in both TRAIN and EVAL, so there was nothing to compare")
    return Quiet()


def _passes(record: Record, name: str, start_step: int):
    """(last step, mean training loss, mean validation loss) of each completed EVAL pass."""
    train, valid, last = [], [], 0
    points = [point for point in record.points(name) if point.step >= start_step]
    if record.finished:
        points.append(Point(-1, TRAIN, -1, math.nan))  # nothing more will come: the last pass is complete
    for point in points:
        if point.mode == EVAL:
            valid.append(point.value)
            last = point.step
        elif point.mode == TRAIN:
            if valid and train:
                yield last, sum(train) / len(train), sum(valid) / len(valid)
            if valid:
                train, valid = [], []
            train.append(point.value)


def overtraining(record: Record, patience_train: int, patience_validation: int, delta: float) -> Finding | Quiet:
    """Fires when neither the training nor the validation loss has improved by more than ``delta`` for its patience.

    Equivalent, not identical: AWS leaves open whether one loss standing still is enough. Here both must stand still, for
    ``patience_train`` and ``patience_validation`` saved steps of their mode since their best; a finished job that saved only one of the
    two modes is judged by that one. ``delta`` is absolute.
    """
    fired = []
    names = [name for name in record.names(collection="losses") if record.points(name)]
    for name in names:
        patience = {TRAIN: patience_train, EVAL: patience_validation}
        best, waited = dict.fromkeys(patience, math.inf), dict.fromkeys(patience, 0)
        points = [point for point in record.points(name) if point.mode in patience]
        seen = {point.mode for point in points} if record.finished else set(patience)
        for point in points:
            better = point.value < best[point.mode] - delta
            waited[point.mode] = 0 if better else waited[point.mode] + 1
            best[point.mode] = point.value if better else best[point.mode]
            if all(waited[mode] >= patience[mode] for mode in seen):
                since = " and ".join(f"{waited[mode]} saved steps of {mode}" for mode in patience if mode in seen)
                fired.append(Finding(point.step, f"{name} has not improved by {delta:g} for {since}"))
                break
    if fired:
        return min(fired, key=lambda finding: finding.step)
    if not any(point.mode in (TRAIN, EVAL) for name in names for point in record.points(name)):
        raise NoData("no tensors of the collection losses were saved in TRAIN or EVAL")
    return Quiet()


def poor_weight_initialization(
    record: Record, activation_inputs_regex: str, threshold: float, distribution_range: float, patience: int, steps: int
) -> Finding | Quiet:
    """Looks at the first ``steps`` saved steps of training; fires at the first at which one of three signs shows.

    (a) The largest variance of a layer's activation inputs is more than ``threshold`` times the smallest; (b) the range from the 5th to
    the 95th percentile of some gradient is below ``distribution_range``; (c) the loss has found no new minimum for ``patience`` steps.
    Equivalent, not identical: AWS does not say how the three combine (here: any), nor which steps are counted (here: those of TRAIN at
    which activation inputs or gradients were saved; the losses at those steps only).
    """
    inputs, gradients = record.names(regex=activation_inputs_regex), record.names(collection="gradients")
    losses = record.names(collection="losses")
    watched = [name for name in inputs + gradients if name not in losses]
    analysed = sorted({step for name in watched for step in learning_steps(record, name)})[:steps]
    if not analysed:
        raise NoData(f"no tensors matching {activation_inputs_regex} and none of the collection gradients were saved")
    loss_at = {point.step: point.value for name in losses[:1] for point in record.points(name)}
    history: list[float] = []
    for step in analysed:
        history += [loss_at[step]] if step in loss_at else []
        why = _uneven(record, inputs, step, threshold) or _narrow(record, gradients, step, distribution_range) or _stuck(history, patience)
        if why:
            return Finding(step, why)
    missing = [what for what, names in (("activation inputs", inputs), ("gradients", gradients), ("losses", losses)) if not names]
    return Quiet(why=f"not looked at, because not saved: {', '.join(missing)}" if missing else "")


def _uneven(record: Record, names: list[str], step: int, threshold: float) -> str | None:
    spreads = {name: record.summary(name, step).std for name in names if record.has(name, step)}
    variances = {name: std**2 for name, std in spreads.items() if std is not None and math.isfinite(std)}
    if len(variances) < 2:
        return None
    low, high = min(variances, key=variances.get), max(variances, key=variances.get)
    ratio = variances[high] / variances[low] if variances[low] else math.inf
    return f"the variance of {high} is {ratio:.3g} times that of {low}, more than {threshold:g} times" if ratio > threshold else None


def _narrow(record: Record, names: list[str], step: int, distribution_range: float) -> str | None:
    for summary, name in ((record.summary(name, step), name) for name in names if record.has(name, step)):
        if summary.p5 is not None and summary.p95 - summary.p5 < distribution_range:
            return f"9 in 10 values of {name} lie within {summary.p95 - summary.p5:.3g}, less than {distribution_range:g}"
    return None


def _stuck(losses: list[float], patience: int) -> str | None:
    """The loss has had no new minimum for ``patience`` steps."""
    best, waited = math.inf, 0
    for loss in losses:
        best, waited = (loss, 0) if loss < best else (best, waited + 1)
    return f"the loss found no new minimum for {waited} saved steps" if waited >= patience else None


COURSE_RULES = ("VanishingGradient", "Overfit", "Overtraining", "PoorWeightInitialization", "LossNotDecreasing")
SPECS = (
    RuleSpec(
        "VanishingGradient", "debugger", {"threshold": Parameter("0.0000001", number(0))}, vanishing_gradient,
        "Let the gradients through: normalisation layers, ReLU instead of saturating units, residual connections, He's initialisation.",
    ),
    RuleSpec(
        "Overfit", "debugger",
        {"tensor_regex": SELECTION["tensor_regex"], "start_step": Parameter("0", count()), "patience": Parameter("1", count(1)),
         "ratio_threshold": Parameter("0.1", number())},
        overfit, "Train on more or augmented images, freeze more layers, or add weight decay.",
    ),
    RuleSpec(
        "Overtraining", "debugger",
        {"patience_train": Parameter("5", count(1)), "patience_validation": Parameter("10", count(1)),
         "delta": Parameter("0.01", number(0))},
        overtraining, "Stop here: further steps cost money and improve nothing. Fewer --epochs give the same model.",
    ),
    RuleSpec(
        "PoorWeightInitialization", "debugger",
        {"activation_inputs_regex": Parameter(".*relu_input", regex), "threshold": Parameter("10.0", number(0)),
         "distribution_range": Parameter("0.001", number(0)), "patience": Parameter("5", count(1)), "steps": Parameter("10", count(1))},
        poor_weight_initialization, "Start from other weights: pretrained ones, or He's initialisation for layers before a ReLU.",
    ),
    RuleSpec(
        "LossNotDecreasing", "debugger",
        {**SELECTION, "use_losses_collection": Parameter("True", flag), "num_steps": Parameter("10", count(1)),
         "diff_percent": Parameter("0.1", number(0, 100)), "increase_threshold_percent": Parameter("5", number(0, 100)),
         "mode": Parameter(None, mode_name)},
        loss_not_decreasing, "Change the learning rate (lower if the loss rises or jumps, higher if it creeps), and check labels and data.",
    ),
)  # fmt: skip
