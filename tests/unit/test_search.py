import math
import random

import pytest

from opml.localaws import search
from opml.localaws.search import sample

RANGES = {
    "CategoricalParameterRanges": [{"Name": "batch_size", "Values": ['"16"', '"32"']}],
    "ContinuousParameterRanges": [{"Name": "learning_rate", "MinValue": "0.0001", "MaxValue": "0.1", "ScalingType": "Logarithmic"}],
    "IntegerParameterRanges": [{"Name": "epochs", "MinValue": "1", "MaxValue": "3", "ScalingType": "Linear"}],
}


def points(count=400, ranges=RANGES, seed=0):
    rng = random.Random(seed)
    return [sample(ranges, rng) for _ in range(count)]


def test_every_point_lies_in_its_ranges():
    for point in points():
        assert point["batch_size"] in ('"16"', '"32"') and 1e-4 <= float(point["learning_rate"]) <= 0.1
        assert point["epochs"] in ("1", "2", "3")


def test_the_seed_decides():
    assert points(5, seed=3) == points(5, seed=3) != points(5, seed=4)


def test_a_logarithmic_scale_spreads_over_the_orders_of_magnitude():
    below = sum(float(point["learning_rate"]) < 1e-3 for point in points())
    assert 0.25 < below / 400 < 0.42  # one of three decades


def test_auto_takes_the_logarithm_of_wide_positive_ranges_only():
    wide = {"ContinuousParameterRanges": [{"Name": "x", "MinValue": "0.0001", "MaxValue": "1", "ScalingType": "Auto"}]}
    narrow = {"ContinuousParameterRanges": [{"Name": "x", "MinValue": "0", "MaxValue": "1"}]}
    assert sum(float(point["x"]) < 0.01 for point in points(ranges=wide)) > 150
    assert sum(float(point["x"]) < 0.01 for point in points(ranges=narrow)) < 20


def test_a_reverse_logarithmic_scale_is_dense_towards_one():
    ranges = {"ContinuousParameterRanges": [{"Name": "x", "MinValue": "0.9", "MaxValue": "0.999", "ScalingType": "ReverseLogarithmic"}]}
    assert sum(float(point["x"]) > 0.99 for point in points(ranges=ranges)) > 150


def minimum_found(strategy, count=24, seed=1, **options):
    """The best of some trials of a parabola whose minimum is at learning rate 0.01, batch size 32."""
    one = search.make(strategy, RANGES, seed, maximize=False, **options)
    values = []
    for number in range(count):
        point = one.ask()
        values.append(abs(math.log10(float(point["learning_rate"])) + 2) + ("16" in point["batch_size"]) + int(point["epochs"]) / 10)
        one.tell(number, values[-1])
    return values


def test_the_bayesian_strategy_learns_from_results():
    late = {name: sum(sum(minimum_found(name, 40, seed)[-12:]) for seed in range(4)) for name in ("Bayesian", "Random")}
    assert late["Bayesian"] < 0.8 * late["Random"]
    assert minimum_found("Bayesian", 8) == minimum_found("Bayesian", 8) != minimum_found("Bayesian", 8, seed=2)


def test_points_of_optuna_lie_in_every_kind_of_range():
    reverse = [{"Name": "momentum", "MinValue": "0.9", "MaxValue": "0.999", "ScalingType": "ReverseLogarithmic"}]
    one = search.make("Bayesian", {**RANGES, "ContinuousParameterRanges": reverse}, 0, maximize=True)
    for number in range(30):
        point = one.ask()
        assert 0.9 <= float(point["momentum"]) <= 0.9991 and point["epochs"] in ("1", "2", "3") and point["batch_size"] in ('"16"', '"32"')
        one.tell(number, float(point["momentum"]) if number % 3 else None)


def test_a_grid_has_each_combination_once():
    ranges = {"CategoricalParameterRanges": [{"Name": "a", "Values": ["1", "2"]}, {"Name": "b", "Values": ["x", "y", "z"]}]}
    one = search.make("Grid", ranges, 0, maximize=True)
    asked = [one.ask() for _ in range(6)]
    assert asked[:2] == [{"a": "1", "b": "x"}, {"a": "1", "b": "y"}] and len({tuple(point.items()) for point in asked}) == 6
    with pytest.raises(StopIteration):
        one.ask()


def test_hyperband_stops_what_is_bad_early_and_lets_the_good_go_on():
    one = search.make("Hyperband", RANGES, 0, maximize=True, hyperband={"MinResource": 1, "MaxResource": 9})
    lives = []
    for number in range(20):
        one.ask()
        quality = (number * 7) % 20
        lives.append(next((epoch for epoch in range(1, 9) if one.is_hopeless(number, [quality] * epoch)), 9))
        one.tell(number, quality)
    assert lives[17] == 9 and min(lives) < 9 and sum(lives) < 9 * 20  # trial 17 is the best


def test_results_of_a_parent_tuning_job_seed_the_search():
    points = [{"learning_rate": str(10 ** (-4 + number / 10)), "batch_size": '"32"', "epochs": "1"} for number in range(30)]
    one = search.make("Bayesian", RANGES, 0, maximize=False)
    for point in points:
        one.seed_with(point, abs(math.log10(float(point["learning_rate"])) + 2))
    one.seed_with({"learning_rate": "7", "batch_size": '"32"', "epochs": "1"}, 0.0)  # out of range: not used
    rates = [float(one.ask()["learning_rate"]) for _ in range(8)]
    assert sum(0.002 < rate < 0.05 for rate in rates) >= 6


@pytest.mark.parametrize(
    ("values", "maximize", "hopeless"),
    [
        ([3.0], False, True),
        ([2.0], False, False),
        ([1.0], False, False),
        ([1.0], True, True),
        ([9, 2.4], False, False),
        ([9] * 4, False, False),
    ],
)
def test_the_median_rule_compares_with_running_averages_up_to_the_same_epoch(values, maximize, hopeless):
    others = [[1.0, 1.0, 0.1], [2.0, 3.0, 0.1], [4.0, 4.0, 0.1]]  # averages after one epoch 1, 2, 4; after two 1, 2.5, 4
    assert search.is_below_median(values, others, maximize) is hopeless


def test_the_median_rule_waits_for_three_other_trials():
    assert not search.is_below_median([9.0], [[1.0], [1.0]], False) and not search.is_below_median([], [[1.0]] * 3, False)


def number_range(name, low, high, scaling="Linear"):
    return {"ContinuousParameterRanges": [{"Name": name, "MinValue": low, "MaxValue": high, "ScalingType": scaling}]}


@pytest.mark.parametrize(
    ("strategy", "limit", "ranges", "word"),
    [
        ("Grid", None, RANGES, "CategoricalParameterRanges only"),
        ("Grid", 5, {"CategoricalParameterRanges": RANGES["CategoricalParameterRanges"]}, "has 2 combinations"),
        ("Bayesian", None, RANGES, "MaxNumberOfTrainingJobs is required"),
        ("Random", 2, number_range("x", "2", "1"), "is empty"),
        ("Random", 2, number_range("x", "0", "1", "Logarithmic"), "above 0"),
        ("Random", 2, number_range("x", "0", "1", "ReverseLogarithmic"), "0 <= x < 1"),
        ("Random", 2, number_range("x", "a", "1"), "not of numbers"),
    ],
)
def test_ranges_and_limits_that_cannot_be_searched_are_refused(strategy, limit, ranges, word):
    limits = {"MaxParallelTrainingJobs": 1} | ({"MaxNumberOfTrainingJobs": limit} if limit else {})
    assert word in search.fault(strategy, {"ResourceLimits": limits}, [ranges])
