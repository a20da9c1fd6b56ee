import random

from opml.localaws.tuning import sample

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
