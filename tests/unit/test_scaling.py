import boto3
import pytest
from botocore.validate import ParamValidator

from opml import scaling
from opml.errors import BadInput


def problems(service, operation, request):
    shape = boto3.client(service, region_name="us-east-1").meta.service_model.operation_model(operation).input_shape
    return ParamValidator().validate(request, shape).generate_report()


def test_the_target_is_invocations_a_minute_not_a_second():
    assert scaling.target_value(20) == 600  # 20 a second * 0.5 * 60 seconds


@pytest.mark.parametrize("arguments", [(0,), (-1,), (float("nan"),), (10, 0), (10, 1.5)])
def test_a_rate_or_a_factor_that_cannot_be_is_refused(arguments):
    with pytest.raises(BadInput):
        scaling.target_value(*arguments)


def test_the_scalable_target_fits_the_api():
    request = scaling.scalable_target_request("dogs", tags=[{"Key": "opml:run_id", "Value": "t"}])
    assert problems("application-autoscaling", "RegisterScalableTarget", request) == ""
    assert request["ResourceId"] == "endpoint/dogs/variant/AllTraffic"
    assert (request["MinCapacity"], request["MaxCapacity"]) == (1, 3)


def test_the_policy_fits_the_api_and_names_the_same_target():
    target, policy = scaling.scalable_target_request("dogs"), scaling.target_tracking_request("dogs", 600)
    assert problems("application-autoscaling", "PutScalingPolicy", policy) == ""
    for name in ("ServiceNamespace", "ResourceId", "ScalableDimension"):
        assert policy[name] == target[name]


@pytest.mark.parametrize("low, high", [(0, 3), (4, 3), (-1, -1)])
def test_a_capacity_that_cannot_be_is_refused(low, high):
    with pytest.raises(BadInput, match="minimum <= maximum"):
        scaling.scalable_target_request("dogs", min_capacity=low, max_capacity=high)


def test_a_negative_cooldown_is_refused():
    with pytest.raises(BadInput, match="cooldowns"):
        scaling.target_tracking_request("dogs", 600, scale_in_cooldown=-1)


@pytest.mark.parametrize("load, instances", [(0, 1), (599, 1), (600, 1), (601, 2), (1300, 3), (9999, 3)])
def test_target_tracking_settles_between_minimum_and_maximum(load, instances):
    assert scaling.desired_instances(load, target=600) == instances


def test_littles_law():
    assert scaling.concurrency(20, 0.3) == pytest.approx(6)


@pytest.mark.parametrize("erlangs, places, share", [(15, 20, 0.0456), (6, 7, 0.185), (0, 5, 0.0), (3, 0, 1.0), (1, 1, 0.5)])
def test_erlang_b_gives_the_known_values(erlangs, places, share):
    assert scaling.throttled_share(erlangs, places) == pytest.approx(share, abs=5e-4)


def test_one_place_more_refuses_fewer_calls():
    shares = [scaling.throttled_share(6, places) for places in range(30)]
    assert shares == sorted(shares, reverse=True)


def test_the_reservation_is_the_smallest_that_is_good_enough():
    reserved = scaling.reserve_for(20, 0.3, tolerated=0.01)
    assert scaling.throttled_share(6, reserved) <= 0.01 < scaling.throttled_share(6, reserved - 1)


def test_the_reservation_fits_the_api():
    assert problems("lambda", "PutFunctionConcurrency", scaling.reserved_concurrency_request("dogs", 12)) == ""


@pytest.mark.parametrize("reserved, limit", [(901, 1000), (1, 10), (-1, 1000)])
def test_a_reservation_that_starves_the_other_functions_is_refused(reserved, limit):
    with pytest.raises(BadInput, match="at most"):
        scaling.reserved_concurrency_request("dogs", reserved, account_limit=limit)
