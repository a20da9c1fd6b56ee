"""Target tracking as arithmetic."""

import math

import pytest

from opml.localaws.tracking import Tracker, decide


def tracker(*points: float, target: float = 100, **more) -> Tracker:
    made = Tracker(target, **more)
    made.points.extend(points)
    return made


def change(trackers, count=1, low=1, high=4, since_out=math.inf, since_in=math.inf, **more) -> int | None:
    found = decide(trackers, count, low, high, since_out, since_in, **more)
    return found and found.count


def test_three_minutes_above_the_target_scale_out_and_two_do_not():
    assert change([tracker(250, 250)]) is None
    assert change([tracker(250, 90, 250)]) is None
    assert change([tracker(250, 250, 250)]) == 3


@pytest.mark.parametrize("count, point, wanted", [(1, 101, 2), (2, 150, 3), (1, 1000, 4), (4, 300, None)])
def test_desired_is_the_ceiling_within_the_bounds(count, point, wanted):
    assert change([tracker(*[point] * 3)], count=count) == wanted


def test_fifteen_minutes_below_nine_tenths_scale_in_and_fourteen_do_not():
    assert change([tracker(*[40] * 14)], count=3) is None
    assert change([tracker(*[90] * 15)], count=3) is None, "nine tenths of the target are not below nine tenths"
    assert change([tracker(*[40] * 15)], count=3) == 2
    assert change([tracker(*[0] * 15)], count=3) == 1


def test_no_scale_in_where_it_is_disabled():
    assert change([tracker(*[0] * 15, scales_in=False)], count=3) is None


def test_cooldowns_hold_each_direction():
    assert change([tracker(*[250] * 3)], since_out=240) is None
    assert change([tracker(*[250] * 3)], since_out=300) == 3
    assert change([tracker(*[250] * 3)], since_in=0) == 3, "a scale-in cooldown does not hold a scale-out"
    assert change([tracker(*[0] * 15)], count=3, since_in=240) is None
    assert change([tracker(*[0] * 15, in_cooldown=60)], count=3, since_in=60) == 1


def test_of_several_policies_the_largest_count_wins():
    quiet = tracker(*[10] * 15)
    assert change([quiet, tracker(*[250] * 15)], count=2) == 4
    assert change([quiet, tracker(*[95] * 15)], count=3) is None, "one policy that is content keeps the count"
    assert change([quiet, tracker(*[60] * 15)], count=3) == 2


def test_suspended_directions_do_nothing():
    assert change([tracker(*[250] * 3)], suspended=frozenset({"out"})) is None
    assert change([tracker(*[0] * 15)], count=3, suspended=frozenset({"in"})) is None


def test_alarms_need_their_points():
    made = tracker(250, 250)
    assert (made.high, made.low) == ("INSUFFICIENT_DATA", "INSUFFICIENT_DATA")
    made.points.append(250)
    assert (made.high, made.low) == ("ALARM", "INSUFFICIENT_DATA")
    made.points.extend([250] * 12)
    assert (made.high, made.low) == ("ALARM", "OK")
