"""Rules about tensors over several steps: unchanged, updated too much or too little, imbalanced classes, no step at all.

*Equivalent, not identical* to SageMaker's, as those of :mod:`opml.core.rules_tensor`: each docstring names what AWS leaves open.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from opml.core.records import Record
from opml.core.rule_spec import (
    SELECTION,
    BadParameter,
    Finding,
    NoData,
    Parameter,
    Quiet,
    RuleSpec,
    count,
    flag,
    learning_steps,
    regex,
    select,
)
from opml.core.rules_tensor import Names, first, within


def class_imbalance(
    record: Record,
    threshold_imbalance: float,
    threshold_misprediction: float,
    samples: int,
    argmax: bool,
    labels_regex: str,
    predictions_regex: str,
) -> Finding | Quiet:
    """Fires when the commonest class has over ``threshold_imbalance`` times the labels of the rarest, or a class is mostly mistaken.

    Looks once ``samples`` labels were seen, and at each later step. Left open: a class never seen (here: does not count), which modes
    (here: TRAIN), and a class mistaken (here: the share of its labels predicted as another is above ``threshold_misprediction``).
    """
    labels, predictions = record.names(labels_regex), record.names(predictions_regex)
    if not labels:
        raise NoData(f"no tensors matching {labels_regex} were saved")
    seen, wrong = Counter(), Counter()
    for step in learning_steps(record, labels[0]):
        truth = record.value(labels[0], step)
        if truth is None:
            raise NoData(f"of {labels[0]} only statistics were saved")
        seen.update(truth.reshape(-1).astype(int).tolist())
        if predictions and record.has(predictions[0], step):
            wrong.update(_mistaken(truth, record.value(predictions[0], step), argmax))
        if seen.total() >= samples:
            why = _imbalance(seen, threshold_imbalance) or _mistakes(seen, wrong, threshold_misprediction)
            if why:
                return Finding(step, why)
    if seen.total() < samples:
        raise NoData(f"{seen.total()} labels were saved, and the rule looks at {samples}")
    return Quiet()


def _mistaken(truth: np.ndarray, predicted: np.ndarray | None, argmax: bool) -> list[int]:
    """The true classes of the samples that were predicted wrongly.

    Raises
    ------
    BadParameter : there is not one prediction for each label.
    """
    if predicted is None:
        return []
    guess = (predicted.argmax(axis=-1) if argmax else np.rint(predicted)).reshape(-1)
    truth = truth.reshape(-1).astype(int)
    if len(guess) != len(truth):
        remedy = "name other tensors with predictions_regex" if argmax else "set argmax to True, if they are one score for each class"
        raise BadParameter(f"predictions have {len(guess)} values for {len(truth)} labels: {remedy}")
    return truth[guess.astype(int) != truth].tolist()


def _imbalance(seen: Counter, threshold: float) -> str | None:
    (common, most), (rare, least) = seen.most_common(1)[0], seen.most_common()[-1]
    return f"class {common} has {most} labels and class {rare} has {least}" if most / least > threshold else None


def _mistakes(seen: Counter, wrong: Counter, threshold: float) -> str | None:
    for label in sorted(wrong):
        if wrong[label] / seen[label] > threshold:
            return f"{wrong[label]} of {seen[label]} samples of class {label} were predicted as another"
    return None


def weight_update_ratio(
    record: Record, num_steps: int | None, large_threshold: float, small_threshold: float, epsilon: float
) -> Finding | Quiet:
    """Fires when a weight's update over ``num_steps`` steps (default: since the save before) is far too large or small for it.

    Left open: the norm. Here the ratio is mean |new - old| / (mean |old| + ``epsilon``), which fires above ``large_threshold`` and below
    ``small_threshold``. Left open, too: the modes (here: steps of learning only, since validation updates nothing). A weight that is not
    trained never changes, so it is left out if no gradient of it was saved while others' were.
    """
    trained = {name.removeprefix("gradient/") for name in record.names(collection="gradients")}
    names = [name for name in record.names(collection="weights") if not name.startswith("gradient/") and (not trained or name in trained)]

    def judge(name: str, step: int) -> str | None:
        learned = learning_steps(record, name)
        before = [earlier for earlier in learned if earlier <= step - (num_steps or 1)]
        now = record.value(name, step) if step in learned else None
        if not before or now is None:
            return None
        old = record.value(name, before[-1])
        ratio = float(np.abs(now - old).mean() / (np.abs(old).mean() + epsilon))
        bound = f"above {large_threshold:g}" if ratio > large_threshold else f"below {small_threshold:g}" if ratio < small_threshold else ""
        return bound and f"{name} changed by {ratio:.3g} of itself since step {before[-1]}, {bound}"

    return first(record, names, judge, "no weights were saved whole at two steps of training")


def unchanged_tensor(
    record: Record, collection_names: Names, tensor_regex: Names, num_steps: int, rtol: float, atol: float, equal_nan: bool
) -> Finding | Quiet:
    """Fires when a tensor is the same (numpy.allclose) at its last ``num_steps`` saved steps of learning.

    Left open: compared with what (here: each of them with the newest), and the modes (here: steps of learning only, TRAIN and GLOBAL,
    since in validation nothing changes a weight).
    """

    def judge(name: str, step: int) -> str | None:
        learned = learning_steps(record, name)
        last = [saved for saved in learned if saved <= step][-num_steps:] if step in learned else []
        values = [record.value(name, saved) for saved in last]
        if len(values) < num_steps or any(value is None for value in values):
            return None
        same = all(value.shape == values[-1].shape and np.allclose(value, values[-1], rtol, atol, equal_nan) for value in values)
        return f"{name} has not changed since step {last[0]}" if same else ""

    names = select(record, collection_names, tensor_regex)
    return first(record, names, judge, f"no tensor was saved whole at {num_steps} steps of training")


def stalled_training(record: Record, threshold: float) -> Finding | Quiet:
    """Fires when no new step was saved for more than ``threshold`` seconds.

    Left open: where the wait for the first step begins (here: with the first sample of the system, if any).
    """
    times = sorted((time, step) for step, time in record.times.items())
    begin = min((sample.timestamp for sample in record.system), default=None)
    marks = [] if begin is None else [(begin, None)]
    marks += times
    if not marks or (not times and record.now is None):
        raise NoData("no step and no time was recorded")
    if not record.finished and record.now is not None:
        marks.append((record.now, None))
    for (before, step), (now, _) in zip(marks, marks[1:], strict=False):
        if now - before > threshold:
            return Finding(step, f"nothing was saved for {now - before:.0f} s after {'the start' if step is None else f'step {step}'}")
    if not times:
        raise NoData("no step was saved")
    return Quiet()


SPECS = (
    RuleSpec(
        "ClassImbalance", "debugger",
        {"threshold_imbalance": within("10", 1), "threshold_misprediction": within("0.7", 0, 1), "samples": Parameter("500", count(1)),
         "argmax": Parameter("False", flag), "labels_regex": Parameter(".*labels", regex),
         "predictions_regex": Parameter(".*predictions", regex)},
        class_imbalance, "Collect more images of the rare classes, or weight the loss by class.",
    ),
    RuleSpec(
        "WeightUpdateRatio", "debugger",
        {"num_steps": Parameter(None, count(1)), "large_threshold": within("10", 0), "small_threshold": within("0.00000001", 0),
         "epsilon": within("0.000000001", 0)},
        weight_update_ratio, "Lower the learning rate if updates are large; if they are tiny, raise it or unfreeze the layer.",
    ),
    RuleSpec(
        "UnchangedTensor", "debugger",
        {**SELECTION, "num_steps": Parameter("3", count(2)), "rtol": within("1e-05", 0), "atol": within("1e-08", 0),
         "equal_nan": Parameter("False", flag)},
        unchanged_tensor, "Check that the optimizer has this parameter, and that it is not frozen.",
    ),
    RuleSpec(
        "StalledTrainingRule", "debugger", {"threshold": within("1800", 0)}, stalled_training,
        "Look at the end of the log: a process may wait for another, for data, or for a disk that is full.",
    ),
)  # fmt: skip
