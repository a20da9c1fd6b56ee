"""The other rules about tensors, on series with known answers."""

import math

import numpy as np
import pytest
from recorded import losses, tensors, train

from opml.core.records import Record, Summary
from opml.core.rules import BadParameter, evaluate

ALL = {"tensor_regex": ".*"}
NAN, INF = math.nan, math.inf


def neurons(*shares, samples=200):
    """[samples, neurons]: neuron i is above 0 in the share i of the samples."""
    ranks = np.arange(samples)[:, None]
    return np.where(ranks < np.array(shares) * samples, 1.0, 0.0)


def labelled(*batches, scores=None):
    """A record of labels, and of predictions if they are given."""
    record = tensors("labels", *batches)
    for step, batch in enumerate(scores or ()):
        record.add("predictions", "TRAIN", step, np.array(batch))
    return record


def stalled(times, now=None, finished=False):
    """A record of losses that were saved at these times."""
    record = losses(*train(*[1.0] * len(times)), finished=finished)
    record.times, record.now = dict(enumerate(times)), now
    return record


W, G = "ResNet_fc.weight", "gradient/ResNet_fc.weight"
TABLE = [
    ("ExplodingTensor", ALL, tensors("a", [1.0], [1e38], [1.0, INF]), 2),
    ("ExplodingTensor", ALL, tensors("a", [1.0], [1e38]), None),
    ("ExplodingTensor", {**ALL, "only_nan": "True"}, tensors("a", [INF], [1.0, NAN]), 1),
    ("ExplodingTensor", {**ALL, "only_nan": "true"}, tensors("a", [INF]), None),
    ("ExplodingTensor", {"collection_names": "losses"}, losses(*train(1, NAN)), 1),
    ("ExplodingTensor", ALL, tensors("a", Summary(abs_mean=1.0), Summary(abs_mean=INF)), 1),
    ("AllZero", ALL, tensors("a", [0.0, 1e-9], [0.0, 0.0]), 1),
    ("AllZero", ALL, tensors("a", [0.0, 1e-9]), None),
    ("AllZero", {**ALL, "threshold": "75"}, tensors("a", [0, 0, 1, 1], [0, 0, 0, 1]), 1),
    ("TensorVariance", {**ALL, "max_threshold": "4"}, tensors("a", [-2.0, 2.0], [-2.1, 2.1]), 1),
    ("TensorVariance", {**ALL, "max_threshold": "4"}, tensors("a", [-2.0, 2.0]), None),
    ("TensorVariance", {**ALL, "min_threshold": "4"}, tensors("a", [-2.0, 2.0], [-1.9, 1.9]), 1),
    ("DeadRelu", {}, tensors("l.relu_output_0", neurons(0.01, 0), neurons(1, 1, 1, 0, 0), neurons(1, 0, 0.005)), 2),
    ("DeadRelu", {}, tensors("l.relu_output_0", neurons(0.01, 0), neurons(1, 0, 0.01)), None),
    ("DeadRelu", {"threshold_layer": "20"}, tensors("l.relu_output_0", neurons(1, 1, 1, 1, 0), neurons(1, 1, 1, 0)), 1),
    ("DeadRelu", {"threshold_inactivity": "10"}, tensors("l.relu_output_0", neurons(0.09, 0.05, 1)), 0),
    ("DeadRelu", {}, tensors("l.relu_output_0", Summary(active=(1.0, 0.5)), Summary(active=(0.0, 0.0, 1.0))), 1),
    ("SaturatedActivation", {}, tensors("tanh_input_0", neurons(1, 0) * 9.5, neurons(1, 1) * 9.4999), None),
    ("SaturatedActivation", {}, tensors("tanh_input_0", neurons(1, 0) * 9.5, neurons(1, 1) * -9.5), 1),
    ("SaturatedActivation", {}, tensors("sigmoid_input_0", neurons(1, 1) * 9.5, neurons(0.99, 0.99, 0) * 17), 1),
    ("SaturatedActivation", {}, tensors("sigmoid_input_0", neurons(0.985, 0.985) * 17, neurons(1, 1) * -23), None),
    ("ClassImbalance", {"samples": "22"}, labelled([0] * 10 + [1], [0] * 10 + [1]), None),
    ("ClassImbalance", {"samples": "23"}, labelled([0] * 11 + [1], [0] * 11 + [2], [0]), 1),
    ("ClassImbalance", {"samples": "4", "argmax": "True"}, labelled([0, 0], [1, 1], scores=[[[1, 0], [1, 0]], [[1, 0], [1, 0]]]), 1),
    ("ClassImbalance", {"samples": "4", "threshold_misprediction": "0.5"}, labelled([0, 0, 1, 1], scores=[[0, 1, 0, 1]]), None),
    ("ClassImbalance", {"samples": "4", "threshold_misprediction": "0.4"}, labelled([0, 0, 1, 1], scores=[[0, 1, 0, 1]]), 0),
    ("WeightUpdateRatio", {"epsilon": "0"}, tensors(W, [1.0], [11.0], [132.0]), 2),
    ("WeightUpdateRatio", {"epsilon": "0"}, tensors(W, [1.0], [11.0], [121.0]), None),
    ("WeightUpdateRatio", {"small_threshold": "0.25", "epsilon": "0"}, tensors(W, [1.0], [1.25], [1.5]), 2),
    ("WeightUpdateRatio", {"num_steps": "2", "epsilon": "0"}, tensors(W, [1.0], [10.0], [11.5]), 2),
    ("UnchangedTensor", ALL, tensors("a", [1.0], [1.0], [2.0], [2.0], [2.0]), 4),
    ("UnchangedTensor", ALL, tensors("a", [1.0], [1.0], [2.0], [2.0], [2.1]), None),
    ("UnchangedTensor", {**ALL, "num_steps": "2", "equal_nan": "True"}, tensors("a", [1.0], [NAN], [NAN]), 2),
    ("UnchangedTensor", {**ALL, "num_steps": "2"}, tensors("a", [1.0], [NAN], [NAN]), None),
    ("StalledTrainingRule", {"threshold": "10"}, stalled([0, 10, 20.5, 21], finished=True), 1),
    ("StalledTrainingRule", {"threshold": "10"}, stalled([0, 10, 20], finished=True), None),
    ("StalledTrainingRule", {"threshold": "10"}, stalled([0, 5], now=15.5), 1),
    ("StalledTrainingRule", {"threshold": "10"}, stalled([0, 5], now=99, finished=True), None),
]


@pytest.mark.parametrize(("rule", "parameters", "record", "step"), TABLE)
def test_a_rule_fires_at_its_step_and_not_one_sample_below(rule, parameters, record, step):
    verdict = evaluate(rule, record, parameters)
    assert (verdict.status, verdict.step) == (("NoIssuesFound", None) if step is None else ("IssuesFound", step)), verdict


def test_a_stall_that_a_running_job_has_not_yet_reached_is_in_progress():
    assert evaluate("StalledTrainingRule", stalled([0, 5], now=15), {"threshold": "10"}).status == "InProgress"


def test_channels_are_the_neurons_of_feature_maps():
    alive = np.zeros((4, 2, 3, 3))
    alive[:, 0, 1, 1] = 1  # one place of channel 0 is above 0 in all images: 11 % of its samples
    assert evaluate("DeadRelu", tensors("relu_output_0", alive)).status == "NoIssuesFound"
    assert evaluate("DeadRelu", tensors("relu_output_0", alive), {"threshold_inactivity": "12"}).step == 0


@pytest.mark.parametrize(("rule", "parameters", "record", "reason"), [
    ("ExplodingTensor", {}, tensors("a", [NAN]), "neither collection_names nor tensor_regex was given"),
    ("ExplodingTensor", {"tensor_regex": "^b"}, tensors("a", [NAN]), "no tensors matching ^b were saved"),
    ("AllZero", ALL, tensors("a", Summary(mean=0.0)), "no counts of zeros"),
    ("TensorVariance", ALL, tensors("a", [1.0]), "neither max_threshold nor min_threshold"),
    ("SaturatedActivation", {}, tensors("tanh_input_0", Summary(mean=99.0)), "only their statistics"),
    ("ClassImbalance", {}, labelled([0, 0, 0]), "3 labels were saved, and the rule looks at 500"),
    ("UnchangedTensor", ALL, tensors("a", [1.0], [1.0]), "no tensor was saved whole at 3 steps"),
    ("WeightUpdateRatio", {}, tensors(W, [1.0]), "no weights were saved whole at two steps"),
])  # fmt: skip
def test_what_was_not_saved_is_not_applicable_with_the_reason(rule, parameters, record, reason):
    verdict = evaluate(rule, record, parameters)
    assert verdict.status == "NotApplicable" and reason in verdict.details


def test_scores_of_classes_are_no_predictions_unless_the_largest_is_looked_for():
    record = labelled([0, 1, 1], scores=[[[9, 1], [1, 9], [1, 9]]])
    with pytest.raises(BadParameter, match="predictions have 6 values for 3 labels: set argmax to True"):
        evaluate("ClassImbalance", record, {"samples": "3"})
    assert evaluate("ClassImbalance", record, {"samples": "3", "argmax": "True"}).status == "NoIssuesFound"


def test_a_frozen_weight_is_not_blamed_for_standing_still():
    record = tensors("ResNet_conv1.weight", [1.0], [1.0])
    for step in (0, 1):
        record.add(W, "TRAIN", step, np.array([1.0 + step]))
        record.add(G, "TRAIN", step, np.array([1.0]))
    assert evaluate("WeightUpdateRatio", record).status == "NoIssuesFound"


def trained_and_validated(*values, name="ResNet_fc.weight"):
    """A record of a weight after one step of training, and at three of validation, for each value."""
    record = Record(finished=True)
    for step, (mode, value) in enumerate((mode, value) for value in values for mode in ("TRAIN", "EVAL", "EVAL", "EVAL")):
        record.add(name, mode, step, np.array([value]))
    return record


@pytest.mark.parametrize("rule", ["UnchangedTensor", "WeightUpdateRatio"])
def test_a_weight_that_stands_still_in_validation_only_is_healthy(rule):
    given = ALL if rule == "UnchangedTensor" else {}
    assert evaluate(rule, trained_and_validated(1.0, 1.1, 1.2, 1.3), given).status == "NoIssuesFound"
    assert evaluate(rule, trained_and_validated(1.0, 1.0, 1.0), given).step == (8 if given else 4)


def test_names_are_selected_by_the_union_of_collections_and_expressions():
    record = Record(finished=True)
    for name in ("a", "b", "c"):
        record.add(name, "TRAIN", 0, np.array([0.0 if name == "c" else 1.0]))
    record.collect("mine", "a")
    assert evaluate("AllZero", record, {"collection_names": "mine", "tensor_regex": "^b$"}).status == "NoIssuesFound"
    assert evaluate("AllZero", record, {"collection_names": "mine", "tensor_regex": "^b$,c"}).step == 0
