"""Rules about a tensor at one step: exploding, all zero, of no or too much variance, dead, saturated.

Each is *equivalent, not identical* to SageMaker's: names, parameters, defaults and documented conditions are AWS's ("List of Debugger
Built-in Rules", SageMaker developer guide); each docstring names what AWS leaves open. All look at every mode, unless they say otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from opml.core.records import Record, activity
from opml.core.rule_spec import SELECTION, Finding, NoData, Parameter, Quiet, RuleSpec, flag, number, select

Names = list[str] | None


def first(record: Record, names: list[str], judge: Callable[[str, int], str | None], unseen: str) -> Finding | Quiet:
    """The first step at which ``judge`` has something to say of a tensor: "" is nothing, None that it could not look.

    Raises
    ------
    NoData : it could never look; ``unseen`` says why.
    """
    looked = False
    for step in sorted({step for name in names for step in record.steps(name)}):
        for name in (name for name in names if record.has(name, step)):
            why = judge(name, step)
            looked = looked or why is not None
            if why:
                return Finding(step, why)
    if not looked:
        raise NoData(unseen)
    return Quiet()


def exploding_tensor(record: Record, collection_names: Names, tensor_regex: Names, only_nan: bool) -> Finding | Quiet:
    """Fires when an inspected tensor has an element that is nan or infinite (``only_nan``: nan). Nothing is left open."""

    def judge(name: str, step: int) -> str | None:
        seen = record.summary(name, step)
        if seen.nan is None and seen.abs_mean is None:
            return None
        nan = seen.nan if seen.nan is not None else math.isnan(seen.abs_mean)  # a reduction of the hook keeps both
        inf = seen.inf if seen.inf is not None else math.isinf(seen.abs_mean)
        return f"{name} has elements that are {'nan' if nan else 'infinite'}" if nan or (inf and not only_nan) else ""

    return first(record, select(record, collection_names, tensor_regex), judge, "no statistics of the tensors were saved")


def all_zero(record: Record, collection_names: Names, tensor_regex: Names, threshold: float) -> Finding | Quiet:
    """Fires when at least ``threshold`` % of a tensor's elements are 0. Left open: whether equality fires (here: yes)."""

    def judge(name: str, step: int) -> str | None:
        seen = record.summary(name, step)
        if not seen.size or seen.zeros is None:
            return None
        share = 100 * seen.zeros / seen.size
        return f"{share:.4g} % of {name} are zero" if share >= threshold else ""

    return first(record, select(record, collection_names, tensor_regex), judge, "no counts of zeros were saved")


def tensor_variance(
    record: Record, collection_names: Names, tensor_regex: Names, max_threshold: float | None, min_threshold: float | None
) -> Finding | Quiet:
    """Fires when a tensor's variance (divided by its size, not size - 1) is above ``max_threshold`` or below ``min_threshold``."""
    if max_threshold is None and min_threshold is None:
        raise NoData("neither max_threshold nor min_threshold was given, so nothing could be out of bounds")

    def judge(name: str, step: int) -> str | None:
        spread = record.summary(name, step).std
        if spread is None:
            return None
        high, low = max_threshold is not None and spread**2 > max_threshold, min_threshold is not None and spread**2 < min_threshold
        bound = f"above {max_threshold:g}" if high else f"below {min_threshold:g}" if low else ""
        return bound and f"the variance of {name} is {spread**2:.4g}, {bound}"

    return first(record, select(record, collection_names, tensor_regex), judge, "no variances were saved")


def dead_relu(record: Record, tensor_regex: Names, threshold_inactivity: float, threshold_layer: float) -> Finding | Quiet:
    """Fires when more than ``threshold_layer`` % of a layer's neurons are active in less than ``threshold_inactivity`` % of the samples.

    Left open: what a neuron of a feature map is (here: a channel, its samples being images and places), and the samples counted together
    (here: those of one step).
    """

    def judge(name: str, step: int) -> str | None:
        active = record.summary(name, step).active
        if not active:
            return None
        dead = 100 * sum(100 * share < threshold_inactivity for share in active) / len(active)
        return f"{dead:.4g} % of the {len(active)} neurons of {name} are inactive" if dead > threshold_layer else ""

    return first(record, select(record, None, tensor_regex), judge, "no activity of neurons was saved")


def saturated_activation(
    record: Record,
    collection_names: Names,
    tensor_regex: Names,
    threshold_tanh_min: float,
    threshold_tanh_max: float,
    threshold_sigmoid_min: float,
    threshold_sigmoid_max: float,
    threshold_inactivity: float,
    threshold_layer: float,
) -> Finding | Quiet:
    """Fires when more than ``threshold_layer`` % of a layer's neurons are saturated.

    A neuron is saturated when its input is outside the activation's bounds in at least 100 - ``threshold_inactivity`` % of the samples.
    Left open: neurons and samples (as in DeadRelu), and how the activation is known (here: by tanh or sigmoid in the tensor's name).
    """
    bounds = {"tanh": (threshold_tanh_min, threshold_tanh_max), "sigmoid": (threshold_sigmoid_min, threshold_sigmoid_max)}

    def judge(name: str, step: int) -> str | None:
        kind = next((kind for kind in bounds if kind in name.lower()), None)
        value = record.value(name, step) if kind else None
        shares = None if value is None else activity((value < bounds[kind][0]) | (value > bounds[kind][1]))
        if not shares:
            return None
        saturated = 100 * sum(100 * share >= 100 - threshold_inactivity for share in shares) / len(shares)
        return f"{saturated:.4g} % of the neurons of {name} are saturated" if saturated > threshold_layer else ""

    names = select(record, collection_names, tensor_regex)
    return first(record, names, judge, "no whole inputs of tanh or sigmoid layers were saved, only their statistics")


def within(default: str | None, low: float = -math.inf, high: float = math.inf) -> Parameter:
    """A parameter that is a number from ``low`` to ``high``."""
    return Parameter(default, number(low, high))


SPECS = (
    RuleSpec(
        "ExplodingTensor", "debugger", {**SELECTION, "only_nan": Parameter("False", flag)}, exploding_tensor,
        "Lower the learning rate, clip the gradients, and look for a division by zero or the logarithm of 0.",
    ),
    RuleSpec(
        "DeadRelu", "debugger",
        {"tensor_regex": Parameter(".*relu_output", SELECTION["tensor_regex"].parse), "threshold_inactivity": within("1.0", 0, 100),
         "threshold_layer": within("50.0", 0, 100)},
        dead_relu, "Lower the learning rate, or use a leaky ReLU: a unit that is never above 0 learns nothing any more.",
    ),
    RuleSpec(
        "SaturatedActivation", "debugger",
        {"collection_names": SELECTION["collection_names"],
         "tensor_regex": Parameter(".*tanh_input|.*sigmoid_input", SELECTION["tensor_regex"].parse),
         "threshold_tanh_min": within("-9.4999"), "threshold_tanh_max": within("9.4999"),
         "threshold_sigmoid_min": within("-23"), "threshold_sigmoid_max": within("16.99999"),
         "threshold_inactivity": within("1.0", 0, 100), "threshold_layer": within("50.0", 0, 100)},
        saturated_activation, "Normalise the inputs of tanh and sigmoid, or use ReLU.",
    ),
    RuleSpec(
        "AllZero", "debugger", {**SELECTION, "threshold": within("100", 0, 100)}, all_zero,
        "See where the zeros come from: a dead layer, a mask, or an input that was never filled.",
    ),
    RuleSpec(
        "TensorVariance", "debugger", {**SELECTION, "max_threshold": within(None, 0), "min_threshold": within(None, 0)},
        tensor_variance, "Normalise the layer's input, or change its initialisation.",
    ),
)  # fmt: skip
