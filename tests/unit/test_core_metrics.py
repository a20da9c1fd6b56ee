"""opml.core.metrics: the printed line and the regular expression are two faces of one object."""

import math
import re

import pytest

from opml.core.metrics import METRICS, TEST_LOSS, TRAIN_LOSS


@pytest.mark.parametrize("metric", METRICS, ids=lambda m: m.name)
@pytest.mark.parametrize("value", [0.0, 1.0, 0.123456789, 1.5e-12, 2.5e20, -3.25, math.inf])
def test_what_is_printed_is_read_back(metric, value):
    assert metric.read(f"epoch 3/5: {metric.line(value)} 12 images/s") == [value]


def test_a_metric_that_is_not_a_number_is_read_back_as_such():
    assert math.isnan(TRAIN_LOSS.read(TRAIN_LOSS.line(math.nan))[0])


def test_no_metric_reads_the_line_of_another():
    line = " ".join(metric.line(number) for number, metric in enumerate(METRICS))
    assert [metric.read(line) for metric in METRICS] == [[float(number)] for number in range(len(METRICS))]


def test_a_definition_is_what_sagemaker_applies_to_a_line():
    definition = TEST_LOSS.definition()
    assert re.search(definition["Regex"], TEST_LOSS.line(0.25)).group(1) == "0.25"
    assert definition["Name"] == "test:loss"
