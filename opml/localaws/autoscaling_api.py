"""Application Auto Scaling's operations where moto accepts what AWS refuses; `autoscaling` evaluates."""

import json
from datetime import UTC, datetime

import botocore.session
from moto.applicationautoscaling import urls
from moto.applicationautoscaling.exceptions import AWSValidationException
from moto.applicationautoscaling.responses import ApplicationAutoScalingResponse
from moto.core.exceptions import JsonRESTError
from moto.sagemaker.models import sagemaker_backends

from opml.localaws import autoscaling, hosting
from opml.localaws.settings import settings

BURSTABLE = "ml.t"
PAGE = 50


class ObjectNotFound(JsonRESTError):
    """AWS's answer about a target or a policy that is not there."""

    def __init__(self, message: str):
        super().__init__("ObjectNotFoundException", message)


def _metric_types() -> list[str]:
    model = botocore.session.get_session().get_service_model("application-autoscaling")
    return model.shape_for("MetricType").enum


def check_variant(resource_id: str) -> None:
    """The variant must exist and must not run on burstable instances."""
    endpoint, variant = autoscaling.split(resource_id)
    running = hosting.find(endpoint)
    if running is None:
        arn = f"arn:aws:sagemaker:{settings.region}:{settings.account}:endpoint/{endpoint.lower()}"
        raise AWSValidationException(f'Could not find endpoint "{arn}".')
    store = sagemaker_backends[settings.account][settings.region]
    config = store.endpoint_configs.get(running.fake.endpoint_config_name)
    shown = [one["VariantName"] for one in running.fake.production_variants]
    if variant not in shown:
        raise AWSValidationException(f'The variant name(s) "{variant}" is/are not present within endpoint "{endpoint}".')
    for one in config.production_variants if config else []:
        if one["VariantName"] == variant and one.get("InstanceType", "").startswith(BURSTABLE):
            raise AWSValidationException(
                f"Auto scaling is not supported for burstable instance type {one['InstanceType']} of {resource_id}."
            )


class AutoScaling(ApplicationAutoScalingResponse):
    """moto's, with AWS's refusals, alarms and activities."""

    def _ids(self) -> tuple[str, str, str]:
        return self._get_param("ServiceNamespace"), self._get_param("ResourceId"), self._get_param("ScalableDimension")

    def _target(self):
        _, resource_id, dimension = self._ids()
        return self.applicationautoscaling_backend.targets.get(dimension, {}).get(resource_id)

    def _no_target(self, verb: str) -> ObjectNotFound:
        namespace, resource_id, dimension = self._ids()
        where = f"service namespace: {namespace}, resource ID: {resource_id}, scalable dimension: {dimension}"
        return ObjectNotFound(f"No {verb} for {where}")

    def register_scalable_target(self) -> str:
        """Refuses an unknown variant, bounds that cross, and burstable instances."""
        _, resource_id, dimension = self._ids()
        if dimension == autoscaling.DIMENSION:
            if resource_id.split("/")[::2] != ["endpoint", "variant"] or resource_id.count("/") != 3:
                raise AWSValidationException("Unsupported service namespace, resource type or scalable dimension")
            check_variant(resource_id)
        known = self._target()
        low, high = self._get_param("MinCapacity"), self._get_param("MaxCapacity")
        low, high = (known.min_capacity if low is None else low, known.max_capacity if high is None else high) if known else (low, high)
        if low is None or high is None:
            raise AWSValidationException("MinCapacity and MaxCapacity must be specified to register a new scalable target.")
        if int(low) > int(high):
            raise AWSValidationException("Maximum capacity cannot be less than minimum capacity")
        answer = super().register_scalable_target()
        autoscaling.start()
        return answer

    def deregister_scalable_target(self) -> str:
        """With its policies and their alarms."""
        _, resource_id, dimension = self._ids()
        if self._target() is None:
            raise self._no_target("scalable target found")
        autoscaling.forget(resource_id, dimension)
        return "{}"

    def put_scaling_policy(self) -> str:
        """Makes the two alarms; refuses a policy without target and unknown metrics."""
        if self._target() is None:
            raise self._no_target("scalable target registered")
        wanted = self._get_param("TargetTrackingScalingPolicyConfiguration")
        self._check_metric(wanted)
        old = self._policy()
        answer = json.loads(super().put_scaling_policy())
        policy = self._policy()
        if old is not None:
            autoscaling.drop(old)
            policy.policy_arn = old.policy_arn
        if policy.policy_type == "TargetTrackingScaling" and policy.scalable_dimension == autoscaling.DIMENSION:
            autoscaling.adopt(policy)
        alarms = [{"AlarmARN": alarm.alarm_arn, "AlarmName": alarm.name} for alarm in policy.alarms]
        return json.dumps({**answer, "PolicyARN": policy.policy_arn, "Alarms": alarms})

    def _check_metric(self, wanted: dict | None) -> None:
        asked = ((wanted or {}).get("PredefinedMetricSpecification") or {}).get("PredefinedMetricType")
        if asked is not None and asked not in _metric_types():
            raise AWSValidationException(
                f"1 validation error detected: Value '{asked}' at 'targetTrackingScalingPolicyConfiguration.predefinedMetricSpecification."
                f"predefinedMetricType' failed to satisfy constraint: Member must satisfy enum value set: [{', '.join(_metric_types())}]"
            )

    def _policy(self):
        key = "\t".join((*self._ids(), self._get_param("PolicyName")))
        return self.applicationautoscaling_backend.policies.get(key)

    def delete_scaling_policy(self) -> str:
        """With its alarms."""
        policy = self._policy()
        if policy is None:
            raise self._no_target(f"scaling policy {self._get_param('PolicyName')} found")
        autoscaling.drop(policy)
        return super().delete_scaling_policy()

    def describe_scaling_activities(self) -> str:
        """Newest first."""
        _, resource_id, _ = self._ids()
        found = [one for one in reversed(autoscaling.activities) if resource_id in (None, one.resource_id)]
        start, size = int(self._get_param("NextToken") or 0), self._get_int_param("MaxResults") or PAGE
        for one in found:
            one.settle()
        more = {"NextToken": str(start + size)} if len(found) > start + size else {}
        return json.dumps({"ScalingActivities": [_described(one) for one in found[start : start + size]], **more})


def _described(activity: autoscaling.Activity) -> dict:
    ended = {} if activity.ended is None else {"EndTime": _epoch(activity.ended)}
    return {
        "ActivityId": activity.id, "ServiceNamespace": "sagemaker", "ResourceId": activity.resource_id,
        "ScalableDimension": autoscaling.DIMENSION, "Description": f"Setting desired instance count to {activity.count}.",
        "Cause": activity.cause, "StartTime": _epoch(activity.started), **ended, "StatusCode": activity.status,
        "StatusMessage": activity.message,
    }  # fmt: skip


def _epoch(moment: datetime) -> float:
    """moto's times are UTC without saying so."""
    return moment.replace(tzinfo=UTC).timestamp()


def install() -> None:
    """Put ours in the place of moto's; an endpoint that is deleted is deregistered."""
    urls.url_paths["{0}/$"] = AutoScaling.dispatch
    if autoscaling.forget_endpoint not in hosting.on_remove:
        hosting.on_remove.append(autoscaling.forget_endpoint)
        hosting.held_by.append(autoscaling.holds)
