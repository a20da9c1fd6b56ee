import pytest

from opml import costs
from opml.errors import BadInput


def test_an_hour_of_a_job_costs_the_hourly_price():
    assert costs.job_cost("ml.m5.large", 3600) == pytest.approx(costs.hourly("ml.m5.large"))


def test_five_instances_cost_five_times_one():
    assert costs.job_cost("ml.m5.xlarge", 90, count=5) == pytest.approx(5 * costs.job_cost("ml.m5.xlarge", 90))


def test_a_forgotten_endpoint_of_one_ml_m5_large_costs_84_usd_a_month():
    assert round(costs.endpoint_month("ml.m5.large")) == 84
    assert costs.endpoint_month("ml.m5.large") * 12 / 365 == pytest.approx(2.76, abs=0.005)  # a day


def test_an_amount_prints_the_date_of_its_price():
    assert costs.AS_OF in str(costs.hourly("ml.m5.large")) and costs.AS_OF in repr(costs.job_cost("t3.medium", 10))


def test_an_amount_formats_like_the_number_it_is():
    assert f"{costs.hourly('ml.m5.large'):.3f}" == "0.115"


def test_a_million_calls_of_a_second_at_one_gigabyte():
    assert costs.lambda_cost(1_000_000, 1.0, 1024) == pytest.approx(16.6667 + 0.20)


def test_an_unknown_instance_type_is_refused_with_the_known_ones():
    with pytest.raises(BadInput, match=r"ml\.p99.*ml\.m5\.large"):
        costs.hourly("ml.p99.large")


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_a_time_that_cannot_be_is_refused(seconds):
    with pytest.raises(BadInput, match="seconds"):
        costs.job_cost("ml.m5.large", seconds)


@pytest.mark.parametrize("family", ["ml.", "ec2"])
def test_the_table_is_dated_sorted_and_short(family):
    table = costs.table(family)
    assert len(table) <= 10 and set(table["as of"]) == {costs.AS_OF}
    assert table["USD/hour"].is_monotonic_increasing
    assert all(name.startswith("ml.") == (family == "ml.") for name in table.index)
