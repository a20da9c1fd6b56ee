"""The arithmetic of target tracking: a point each minute in, a desired count out. No clock, no process, no moto.

Alarms: high is 3 of 3 minutes above the target, low is 15 of 15 below nine tenths of it. Desired is ``ceil(n * m / T)`` with
the metric ``m`` per instance, within the target's bounds; of several policies the largest count wins
(https://docs.aws.amazon.com/autoscaling/application/userguide/target-tracking-scaling-policy-overview.html).
"""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

HIGH_POINTS, LOW_POINTS, LOW_SHARE = 3, 15, 0.9
COOLDOWN = 300.0  # simulated seconds, AWS's default for SageMaker variants


@dataclass
class Tracker:
    """One policy and the last fifteen points it saw."""

    target: float
    out_cooldown: float = COOLDOWN  # simulated seconds
    in_cooldown: float = COOLDOWN
    scales_in: bool = True
    points: deque[float] = field(default_factory=lambda: deque(maxlen=LOW_POINTS))

    @property
    def high(self) -> str:
        """State of AlarmHigh."""
        return _state(list(self.points)[-HIGH_POINTS:], HIGH_POINTS, lambda point: point > self.target)

    @property
    def low(self) -> str:
        """State of AlarmLow."""
        return _state(list(self.points), LOW_POINTS, lambda point: point < LOW_SHARE * self.target)

    def wanted(self, count: int) -> int:
        """How many instances would bring the last point to the target."""
        return math.ceil(count * self.points[-1] / self.target)


def _state(points: list[float], needed: int, breaching) -> str:
    if len(points) < needed:
        return "INSUFFICIENT_DATA"
    return "ALARM" if all(map(breaching, points)) else "OK"


@dataclass(frozen=True)
class Decision:
    """A change, and the tracker whose alarm asked for it."""

    count: int
    tracker: Tracker
    alarm: str  # "High" or "Low"


def decide(
    trackers: Iterable[Tracker], count: int, low: int, high: int, since_out: float, since_in: float, suspended: frozenset[str] = frozenset()
) -> Decision | None:
    """What to do with ``count`` instances, or None.

    Parameters
    ----------
    low, high
        MinCapacity and MaxCapacity
    since_out, since_in
        simulated seconds since the last change upwards and downwards; infinity if there was none
    suspended
        "out", "in": directions that are suspended
    """
    known = [tracker for tracker in trackers if tracker.points]
    ups = [
        (min(high, tracker.wanted(count)), tracker) for tracker in known if tracker.high == "ALARM" and since_out >= tracker.out_cooldown
    ]
    if ups and "out" not in suspended:
        wanted, tracker = max(ups, key=lambda pair: pair[0])
        if wanted > count:
            return Decision(wanted, tracker, "High")
    if not known or "in" in suspended or any(tracker.low != "ALARM" or not tracker.scales_in for tracker in known):
        return None
    wanted, tracker = max(((max(low, tracker.wanted(count)), tracker) for tracker in known), key=lambda pair: pair[0])
    if wanted < count and min(since_in, since_out) >= tracker.in_cooldown:
        return Decision(wanted, tracker, "Low")
    return None
