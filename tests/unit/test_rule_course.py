"""The course's five rules on series with known answers: fires at this step, and not one sample below the threshold."""

import math

import numpy as np
import pytest
from recorded import GRADIENT, LOSS, losses, tensors, train, valid

from opml.core.records import EVAL, Record, Summary
from opml.core.rules import COURSE_RULES, RULES, BadParameter, evaluate

NAN = math.nan


def every(interval, *values):
    """Training losses saved at each ``interval``-th step."""
    return losses(*[("TRAIN", value, number * interval) for number, value in enumerate(values)])


TABLE = [
    # rule, parameters, record, the step at which it fires (None: it does not)
    ("VanishingGradient", {}, tensors(GRADIENT, [1e-3], [1e-7], [-9e-8], [1.0]), 2),
    ("VanishingGradient", {}, tensors(GRADIENT, [1e-7], [-1e-7], [1.0]), None),
    ("VanishingGradient", {"threshold": "0.5"}, tensors(GRADIENT, [1.0, -0.2], [0.5, -0.4]), 1),
    ("VanishingGradient", {}, tensors(GRADIENT, [NAN], [1.0]), None),
    ("VanishingGradient", {}, tensors(GRADIENT, Summary(abs_mean=1.0), Summary(abs_mean=1e-8)), 1),
    # Compared every num_steps, with the newest saved step at least num_steps behind: 12 with 0, then 24 with 12.
    ("LossNotDecreasing", {"diff_percent": "0"}, every(4, 0.3, 0.33, 0.31, 0.3, 0.28), 12),
    ("LossNotDecreasing", {"diff_percent": "0"}, every(4, 0.3, 0.33, 0.31, 0.299, 0.4), None),
    ("LossNotDecreasing", {"num_steps": "12"}, every(3, *[3 - s / 99 + (s == 24) for s in range(0, 40, 3)]), 24),
    ("LossNotDecreasing", {"num_steps": "2"}, losses(*train(1, 1, 0.999, 9, 0.998001)), None),
    ("LossNotDecreasing", {"num_steps": "2"}, losses(*train(1, 1, 0.9991)), 2),
    ("LossNotDecreasing", {"num_steps": "1", "diff_percent": "10"}, losses(*train(1, 0.89, 0.81)), 2),
    ("LossNotDecreasing", {"num_steps": "1"}, losses(*train(1, 0.9, NAN)), 2),
    ("LossNotDecreasing", {"num_steps": "1"}, losses(*train(1, 2), *valid(1, 0.5)), None),  # EVAL is tried first
    ("LossNotDecreasing", {"num_steps": "1", "mode": "TRAIN"}, losses(*train(1, 2), *valid(1, 0.5)), 1),
    ("LossNotDecreasing", {"num_steps": "1", "mode": "GLOBAL"}, losses(*train(2, 1), *valid(1.5)), 2),
    ("LossNotDecreasing", {"use_losses_collection": "False", "tensor_regex": "^a", "num_steps": "1"}, tensors("abc", 1.0, 1.0), 1),
    # One comparison a pass of validation; it fires at the pass's last step.
    ("Overfit", {}, losses(*train(1, 1), *valid(1.0, 1.3), *train(1)), 3),
    ("Overfit", {}, losses(*train(1, 1), *valid(1.0, 1.1875)), None),
    ("Overfit", {"patience": "2"}, losses(*train(1), *valid(2), *train(1), *valid(2)), 3),
    ("Overfit", {"patience": "2"}, losses(*train(1), *valid(2), *train(1), *valid(1), *train(1), *valid(2)), None),
    ("Overfit", {"ratio_threshold": "1"}, losses(*train(1), *valid(2), *train(1), *valid(2.01)), 3),
    ("Overfit", {"start_step": "2"}, losses(*train(1), *valid(5), *train(1), *valid(1.0625)), None),
    ("Overfit", {}, losses(*train(0), *valid(0.1)), 1),
    # Both losses must stand still, for the saved steps of their own mode.
    ("Overtraining", {"patience_train": "2", "patience_validation": "1"}, losses(*train(1, 1), *valid(1, 1), *train(0.995)), 4),
    ("Overtraining", {"patience_train": "2", "patience_validation": "1"}, losses(*train(1, 1), *valid(1, 1), *train(0.98)), None),
    ("Overtraining", {"patience_train": "1", "patience_validation": "2"}, losses(*train(1, 1), *valid(1, 1)), None),
    ("Overtraining", {"patience_train": "2"}, losses(*train(1, 1, 1)), 2),
    ("Overtraining", {"patience_validation": "2"}, losses(*valid(1, 0.98, 0.98, 0.97)), 3),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "parameters", "record", "step"), TABLE)
def test_a_rule_fires_at_its_step_and_not_one_sample_below(rule, parameters, record, step):
    verdict = evaluate(rule, record, parameters)
    assert (verdict.status, verdict.step) == (("NoIssuesFound", None) if step is None else ("IssuesFound", step)), verdict
    if step is not None:
        assert (
            verdict.details
            == f"RuleEvaluationConditionMet: Evaluation of the rule {rule} at step {step} resulted in the condition being met\n"
        )


def initial(variances, widths=(1.0,), loss=(3.0, 2.0)):
    """Two layers' inputs with these variances at each step, gradients of these widths, and a loss."""
    record = Record(finished=True)
    for step, value in enumerate(loss):
        record.add(LOSS, "TRAIN", step, np.array(value))
        for number, variance in enumerate(variances):
            record.add(f"layer{number}.relu_input_0", "TRAIN", step, Summary(std=variance**0.5, size=9))
        for number, width in enumerate(widths):
            record.add(f"gradient/l{number}", "TRAIN", step, Summary(p5=0.0, p95=width, size=9))
    return record


INITIAL = [
    ({}, initial((1, 9.9)), None),
    ({"threshold": "9"}, initial((1, 9)), None),
    ({}, initial((1, 10.1)), 0),
    ({"threshold": "2"}, initial((1, 2.1)), 0),
    ({}, initial((0, 1)), 0),
    ({}, initial((1, 1), (1.0, 0.001)), None),
    ({}, initial((1, 1), (1.0, 0.0009)), 0),
    ({}, initial((1, 1), loss=(1, 2, 2, 2, 2)), None),
    ({}, initial((1, 1), loss=(1, 2, 2, 2, 2, 2)), 5),
    ({"patience": "2"}, initial((1, 1), loss=(3, 2, 3, 2)), 3),
    ({"steps": "5"}, initial((1, 1), loss=(1, 2, 2, 2, 2, 2)), None),
]


@pytest.mark.parametrize(("parameters", "record", "step"), INITIAL)
def test_poor_initialization_shows_by_any_of_its_three_signs_in_the_first_steps(parameters, record, step):
    assert evaluate("PoorWeightInitialization", record, parameters).step == step


def test_poor_initialization_says_which_sign_and_what_it_could_not_see():
    assert "the variance of layer1.relu_input_0 is 11 times" in evaluate("PoorWeightInitialization", initial((1, 11))).why
    quiet = evaluate("PoorWeightInitialization", tensors(GRADIENT, np.linspace(0, 1, 9)))
    assert (quiet.status, quiet.why) == ("NoIssuesFound", "not looked at, because not saved: activation inputs, losses")


def test_a_running_job_is_in_progress_and_its_last_pass_is_not_judged_before_it_ends():
    rows = (*train(1, 1), *valid(9, 9))
    assert evaluate("Overfit", losses(*rows, finished=False)).status == "InProgress"
    assert evaluate("Overfit", losses(*rows, *train(1), finished=False)).step == 3


def test_a_loss_that_may_still_come_in_validation_is_waited_for():
    assert evaluate("LossNotDecreasing", losses(*train(1, 1), finished=False), {"num_steps": 1}).status == "InProgress"
    assert evaluate("LossNotDecreasing", losses(*train(1, 1)), {"num_steps": 1}).step == 1
    nameless = losses(("GLOBAL", 1.0), ("GLOBAL", 1.0), finished=False)  # a script that sets no mode
    assert evaluate("LossNotDecreasing", nameless, {"num_steps": 1}).step == 1


@pytest.mark.parametrize("rule", RULES)
def test_no_rule_finds_no_issues_where_it_had_no_data(rule):
    assert evaluate(rule, Record()).status == "InProgress"
    verdict = evaluate(rule, Record(finished=True))
    assert verdict.status == "NotApplicable" and len(verdict.details) > 20


@pytest.mark.parametrize("rule", COURSE_RULES)
def test_data_of_another_kind_is_no_data(rule):
    assert evaluate(rule, tensors("layer1.bn1_output_0", [1.0, 2.0], mode=EVAL)).status == "NotApplicable"


def test_losses_that_were_not_saved_are_what_is_missing():
    verdict = evaluate("LossNotDecreasing", tensors("a", [1.0]))
    assert verdict.details == "no tensors of the collection losses were saved"
    assert evaluate("LossNotDecreasing", tensors("a", 2.0, 2.0), {"tensor_regex": "^a$", "num_steps": "1"}).step == 1
    verdict = evaluate("LossNotDecreasing", tensors("a", [1.0]), {"use_losses_collection": "False"})
    assert "neither collection_names nor tensor_regex was given" in verdict.details


@pytest.mark.parametrize(("rule", "parameters", "sentence"), [
    ("Underfit", {}, "there is no rule 'Underfit'"),
    ("Overfit", {"patients": "1"}, "has no parameter 'patients': it has tensor_regex, start_step, patience, ratio_threshold"),
    ("Overfit", {"patience": "0"}, "patience of the rule Overfit cannot be '0': give a number from 1"),
    ("Overfit", {"patience": "1.5"}, "give a whole number"),
    ("LossNotDecreasing", {"num_steps": "inf"}, "num_steps of the rule LossNotDecreasing cannot be 'inf': give a whole number"),
    ("Overfit", {"tensor_regex": "("}, "no regular expression"),
    ("LossNotDecreasing", {"mode": "learning"}, "give one of TRAIN, EVAL, PREDICT, GLOBAL"),
    ("LossNotDecreasing", {"use_losses_collection": "maybe"}, "give True or False"),
])  # fmt: skip
def test_a_parameter_that_cannot_be_is_refused(rule, parameters, sentence):
    with pytest.raises(BadParameter) as caught:
        evaluate(rule, Record(), parameters)
    assert sentence in str(caught.value)


def test_parameters_come_as_strings_or_values_and_the_service_adds_its_own():
    record = losses(*train(1), *valid(2))
    assert evaluate("Overfit", record, {"rule_to_invoke": "Overfit", "patience": 1, "ratio_threshold": "0.1"}).step == 1


@pytest.mark.parametrize("names", ["losses,gradients", ["losses", "gradients"], ("losses", "gradients")])
def test_a_list_of_names_is_what_a_string_with_commas_is(names):
    record = tensors(GRADIENT, [0.0])
    assert evaluate("AllZero", record, {"collection_names": names}).step == 0


def test_a_verdict_stays_while_the_record_grows():
    rows, seen = [*train(1), *valid(2), *train(1), *valid(1)] * 3, set()
    for length in range(len(rows) + 1):
        seen.add(evaluate("Overfit", losses(*rows[:length], finished=False)).step)
    assert seen == {None, 1}


def test_defaults_are_those_that_aws_documents():
    assert RULES["Overfit"].defaults == {"tensor_regex": None, "start_step": "0", "patience": "1", "ratio_threshold": "0.1"}
    assert RULES["Overtraining"].defaults == {"patience_train": "5", "patience_validation": "10", "delta": "0.01"}
    assert RULES["ProfilerReport"].defaults["CPUBottleneck_cpu_threshold"] == "90"
