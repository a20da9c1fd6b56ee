"""Auto-scaling of endpoint variants: once each simulated minute the policies are evaluated, and instances really start and end.

moto's targets and policies stay the one store; the alarms are moto's too, with the state that the evaluation gives them.
"""

import logging
import math
import threading
import time
import uuid
from dataclasses import dataclass, field
from datetime import datetime

from moto.applicationautoscaling.models import applicationautoscaling_backends
from moto.cloudwatch.models import cloudwatch_backends

from opml.localaws import hosting, state
from opml.localaws.settings import settings
from opml.localaws.tracking import COOLDOWN, HIGH_POINTS, LOW_POINTS, LOW_SHARE, Tracker, decide

DIMENSION = "sagemaker:variant:DesiredInstanceCount"
METRIC = "SageMakerVariantInvocationsPerInstance"
MINUTE = 60.0  # simulated seconds between two evaluations

_log = logging.getLogger(__name__)
_lock = threading.Lock()
_running: threading.Thread | None = None
_trackers: dict[str, Tracker] = {}  # by the policy's ARN
_changes: dict[str, "Changes"] = {}  # by resource id
activities: list["Activity"] = []  # newest last


@dataclass
class Changes:
    """When a variant was last scaled, in simulated seconds since the evaluation began."""

    out: float = -math.inf
    into: float = -math.inf


@dataclass
class Activity:
    """One scaling activity, as DescribeScalingActivities shows it."""

    resource_id: str
    count: int
    cause: str
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    started: datetime = field(default_factory=state.now)
    ended: datetime | None = None
    status: str = "InProgress"

    @property
    def message(self) -> str:
        """AWS's text."""
        if self.status == "Failed":
            return f"Failed to set desired instance count to {self.count}. See the endpoint's FailureReason."
        rest = (
            "Change successfully fulfilled by sagemaker."
            if self.status == "Successful"
            else "Waiting for change to be fulfilled by sagemaker."
        )
        return f"Successfully set desired instance count to {self.count}. {rest}"

    def settle(self) -> None:
        """See whether it is done."""
        endpoint, variant = split(self.resource_id)
        found = hosting.find(endpoint)
        if self.status != "InProgress" or (found is not None and found.fake.endpoint_status == "Updating"):
            return
        shown = found.count_of(variant) if found is not None else None
        self.status, self.ended = "Successful" if shown == self.count else "Failed", state.now()


def backend():
    """moto's Application Auto Scaling of this account."""
    return applicationautoscaling_backends[settings.account][settings.region]


def split(resource_id: str) -> tuple[str, str]:
    """Endpoint and variant of ``endpoint/<name>/variant/<name>``."""
    _, endpoint, _, variant = resource_id.split("/")
    return endpoint, variant


# ---- alarms and life of a policy ------------------------------------------------------------------------------------------------------


def adopt(policy) -> None:
    """Make the two alarms of a target-tracking policy and watch it from now on."""
    wanted = policy.target_tracking_scaling_policy_configuration
    if (wanted.get("PredefinedMetricSpecification") or {}).get("PredefinedMetricType") != METRIC:
        return
    _trackers[policy.policy_arn] = Tracker(
        float(wanted["TargetValue"]), wanted.get("ScaleOutCooldown", COOLDOWN), wanted.get("ScaleInCooldown", COOLDOWN),
        not wanted.get("DisableScaleIn", False),
    )  # fmt: skip
    policy.alarms = [_alarm(policy, kind) for kind in ("High", "Low")]


def _alarm(policy, kind: str):
    tracker, high = _trackers[policy.policy_arn], kind == "High"
    endpoint, variant = split(policy.resource_id)
    dimensions = [{"Name": "EndpointName", "Value": endpoint}, {"Name": "VariantName", "Value": variant}]
    alarm = cloudwatch_backends[settings.account][settings.region].put_metric_alarm(
        name=f"TargetTracking-{policy.resource_id}-Alarm{kind}-{uuid.uuid4()}",
        namespace="AWS/SageMaker", metric_name="InvocationsPerInstance", dimensions=dimensions, statistic="Sum", period=60,
        comparison_operator="GreaterThanThreshold" if high else "LessThanThreshold",
        evaluation_periods=HIGH_POINTS if high else LOW_POINTS, threshold=tracker.target * (1 if high else LOW_SHARE),
        description=f"DO NOT EDIT OR DELETE. For TargetTrackingScaling policy {policy.policy_arn}.",
        alarm_actions=[policy.policy_arn], metric_data_queries=[],
    )  # fmt: skip
    alarm.update_state("Unchecked: Initial alarm creation", "{}", "INSUFFICIENT_DATA")
    return alarm


def drop(policy) -> None:
    """Its alarms and what it has seen."""
    policy.delete_alarms(settings.account, settings.region)
    _trackers.pop(policy.policy_arn, None)


def forget(resource_id: str, dimension: str = DIMENSION) -> None:
    """Deregister a target with its policies and their alarms, as AWS does; fine if there is none."""
    store = backend()
    store.targets.get(dimension, {}).pop(resource_id, None)
    for key, policy in list(store.policies.items()):
        if policy.resource_id == resource_id and policy.scalable_dimension == dimension:
            drop(policy)
            del store.policies[key]
    _changes.pop(resource_id, None)


def forget_endpoint(name: str) -> None:
    """The endpoint is deleted."""
    for resource_id in [known for known in backend().targets.get(DIMENSION, {}) if split(known)[0] == name]:
        forget(resource_id)


def holds(endpoint: str, variant: str) -> bool:
    """Whether a scalable target is registered for the variant."""
    return f"endpoint/{endpoint}/variant/{variant}" in backend().targets.get(DIMENSION, {})


# ---- evaluation -----------------------------------------------------------------------------------------------------------------------


def start() -> None:
    """Evaluate each simulated minute from now on; once a target is there."""
    global _running
    with _lock:
        if _running is None:
            _running = threading.Thread(target=_tick_for_ever, daemon=True, name="autoscaling")
            _running.start()


def _tick_for_ever() -> None:
    began, minute = time.monotonic(), 0
    while True:
        minute += 1
        time.sleep(max(0.0, began + settings.real_seconds(minute * MINUTE) - time.monotonic()))
        for resource_id in list(backend().targets.get(DIMENSION, {})):
            try:
                evaluate(resource_id, minute * MINUTE)
            except hosting.Busy:
                pass  # somebody else changes it just now: the next minute decides anew
            except Exception:
                _log.exception("auto-scaling of %s", resource_id)


def evaluate(resource_id: str, now: float) -> None:
    """Give the minute's metric to the policies of one variant and do what they ask for; ``now`` in simulated seconds."""
    name, variant = split(resource_id)
    endpoint = hosting.find(name)
    target = backend().targets.get(DIMENSION, {}).get(resource_id)
    if endpoint is None or target is None:
        return
    policies = {
        policy.policy_arn: policy for policy in list(backend().policies.values()) if policy.resource_id == resource_id
    }  # fmt: skip
    watched = [(policies[arn], tracker) for arn, tracker in list(_trackers.items()) if arn in policies]
    point = endpoint.take_invocations(variant)
    for policy, tracker in watched:
        tracker.points.append(point)
        _show(policy, tracker, point)
    if endpoint.fake.endpoint_status == "InService":
        _follow(endpoint, resource_id, target, watched, now)


def _follow(endpoint, resource_id: str, target, watched: list[tuple], now: float) -> None:
    """Scale the variant if the target's bounds or one of its (policy, tracker) pairs ask for another count."""
    changes = _changes.setdefault(resource_id, Changes())
    count = endpoint.count_of(split(resource_id)[1])
    if outside := _bound(count, target):
        _scale(endpoint, resource_id, *outside)
        return
    trackers, since = [tracker for _, tracker in watched], (now - changes.out, now - changes.into)
    found = decide(trackers, count, target.min_capacity, target.max_capacity, *since, _suspended(target))
    if found is not None:
        policy = next(policy for policy, tracker in watched if tracker is found.tracker)
        alarm = policy.alarms[found.alarm == "Low"].name
        _scale(endpoint, resource_id, found.count, f"monitor alarm {alarm} in state ALARM triggered policy {policy.policy_name}")
        setattr(changes, "out" if found.count > count else "into", now)


def _bound(count: int, target) -> tuple[int, str] | None:
    """(count, cause) where the present count is outside of the target's bounds."""
    if count < target.min_capacity:
        return target.min_capacity, f"minimum capacity was set to {target.min_capacity}"
    if count > target.max_capacity:
        return target.max_capacity, f"maximum capacity was set to {target.max_capacity}"
    return None


def _show(policy, tracker: Tracker, point: float) -> None:
    for alarm, value in zip(policy.alarms, (tracker.high, tracker.low), strict=True):
        if alarm.state_value != value:
            alarm.update_state(f"Threshold Crossed: the last datapoint was {point:g} (threshold {alarm.threshold:g}).", "{}", value)


def _suspended(target) -> frozenset[str]:
    asked = target.suspended_state or {}
    return frozenset(way for way in ("out", "in") if asked.get(f"DynamicScaling{way.capitalize()}Suspended"))


def _scale(endpoint, resource_id: str, count: int, cause: str) -> None:
    for activity in activities:
        activity.settle()
    endpoint.resize([{"VariantName": split(resource_id)[1], "DesiredInstanceCount": count}])
    activities.append(Activity(resource_id, count, cause))
