"""Auto-scaling on a local AWS whose minutes take a fifth of a second."""

import json
import threading

import psutil
import pytest
from botocore.exceptions import ClientError
from served import until
from test_endpoints import Hosting, archive

SOURCE = """
import json, os

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    return json.dumps({"pid": os.getpid()}), "application/json"
"""
DIMENSION = "sagemaker:variant:DesiredInstanceCount"


class Scaling(Hosting):
    """Endpoints with a scaling policy."""

    def __init__(self, aws):
        super().__init__(aws)
        self.scaling, self.cloudwatch = aws.client("application-autoscaling"), aws.client("cloudwatch")

    def ids(self, name: str, variant: str = "AllTraffic") -> dict:
        return {"ServiceNamespace": "sagemaker", "ResourceId": f"endpoint/{name}/variant/{variant}", "ScalableDimension": DIMENSION}

    def policy(self, name: str, target: float, metric: str = "SageMakerVariantInvocationsPerInstance", **more) -> dict:
        tracking = {"TargetValue": target, "PredefinedMetricSpecification": {"PredefinedMetricType": metric}, **more}
        return self.scaling.put_scaling_policy(
            **self.ids(name), PolicyName="requests", PolicyType="TargetTrackingScaling", TargetTrackingScalingPolicyConfiguration=tracking
        )

    def count(self, name: str) -> int:
        return self.sagemaker.describe_endpoint(EndpointName=name)["ProductionVariants"][0]["CurrentInstanceCount"]

    def activities(self, name: str) -> list[dict]:
        asked = {"ServiceNamespace": "sagemaker", "ResourceId": self.ids(name)["ResourceId"]}
        return self.scaling.describe_scaling_activities(**asked)["ScalingActivities"]

    def states(self, name: str) -> dict[str, str]:
        found = self.cloudwatch.describe_alarms(AlarmNamePrefix=f"TargetTracking-endpoint/{name}/variant/")["MetricAlarms"]
        return {"High" if "AlarmHigh" in alarm["AlarmName"] else "Low": alarm["StateValue"] for alarm in found}

    def refused(self, operation: str, **arguments) -> dict:
        with pytest.raises(ClientError) as caught:
            getattr(self.scaling, operation)(**arguments)
        return caught.value.response["Error"]


class Load:
    """Calls without pause until the block ends; which processes answered."""

    def __init__(self, scaling: Scaling, name: str):
        self.pids, self.errors, self._name, self._scaling = set(), [], name, scaling
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.pids.add(self._scaling.invoke(self._name, b"{}")["pid"])
            except ClientError as error:
                self.errors.append(error)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()


@pytest.fixture(scope="module")
def scaling(brisk):
    made = Scaling(brisk)
    made.endpoint("elastic", archive(code__inference_py=SOURCE))
    yield made
    for name in made.names:
        made.sagemaker.delete_endpoint(EndpointName=name)


def test_load_starts_instances_and_quiet_ends_them(scaling):
    scaling.scaling.register_scalable_target(**scaling.ids("elastic"), MinCapacity=1, MaxCapacity=2)
    made = scaling.policy("elastic", 0.5, ScaleOutCooldown=60, ScaleInCooldown=60)
    assert sorted(alarm["AlarmName"].split("AllTraffic-")[1][:9] for alarm in made["Alarms"]) == ["AlarmHigh", "AlarmLow-"]
    with Load(scaling, "elastic") as load:
        until(lambda: scaling.count("elastic") == 2)
        until(lambda: len(load.pids) == 2)
        assert scaling.states("elastic")["High"] == "ALARM"
    until(lambda: scaling.count("elastic") == 1)
    assert load.errors == [], "draining loses nothing"
    until(lambda: sum(psutil.pid_exists(pid) for pid in load.pids) == 1)
    until(lambda: sum(one["StatusCode"] == "Successful" for one in scaling.activities("elastic")) >= 2)
    into, out = [one for one in scaling.activities("elastic") if one["StatusCode"] == "Successful"][:2]
    assert (into["Description"], out["Description"]) == ("Setting desired instance count to 1.", "Setting desired instance count to 2.")
    assert "AlarmHigh" in out["Cause"] and out["Cause"].endswith("in state ALARM triggered policy requests")
    assert "AlarmLow" in into["Cause"] and into["EndTime"] >= into["StartTime"]


def test_deleting_the_endpoint_deregisters_it(scaling):
    scaling.endpoint("passing", archive(code__inference_py=SOURCE))
    scaling.scaling.register_scalable_target(**scaling.ids("passing"), MinCapacity=1, MaxCapacity=2)
    scaling.policy("passing", 10.0)
    assert set(scaling.states("passing")) == {"High", "Low"}
    scaling.sagemaker.delete_endpoint(EndpointName=scaling.names.pop())
    found = scaling.scaling.describe_scalable_targets(ServiceNamespace="sagemaker", ResourceIds=[scaling.ids("passing")["ResourceId"]])
    assert found["ScalableTargets"] == []
    assert (
        scaling.scaling.describe_scaling_policies(ServiceNamespace="sagemaker", ResourceId=scaling.ids("passing")["ResourceId"])[
            "ScalingPolicies"
        ]
        == []
    )
    assert scaling.states("passing") == {}


def test_what_aws_refuses_is_refused(scaling):
    bounds = {"MinCapacity": 1, "MaxCapacity": 2}
    unknown = scaling.refused("register_scalable_target", **scaling.ids("nowhere"), **bounds)
    other = scaling.refused("register_scalable_target", **scaling.ids("elastic", "Blue"), **bounds)
    crossed = scaling.refused("register_scalable_target", **scaling.ids("elastic"), MinCapacity=3, MaxCapacity=2)
    assert {one["Code"] for one in (unknown, other, crossed)} == {"ValidationException"}
    assert "Could not find endpoint" in unknown["Message"] and "Maximum capacity" in crossed["Message"]
    scaling.scaling.register_scalable_target(**scaling.ids("elastic"), **bounds)
    with pytest.raises(ClientError, match="ValidationException.*enum value set"):
        scaling.policy("elastic", 1.0, metric="Bogus")


def test_burstable_instances_do_not_scale(scaling):
    scaling.model("burst", archive(code__inference_py=SOURCE))
    scaling.config("burst", "burst", instance_type="ml.t2.medium")
    scaling.sagemaker.create_endpoint(EndpointName="burst", EndpointConfigName="burst")
    scaling.names.append("burst")
    said = scaling.refused("register_scalable_target", **scaling.ids("burst"), MinCapacity=1, MaxCapacity=2)
    assert said["Code"] == "ValidationException" and "ml.t2.medium" in said["Message"]


def test_a_policy_needs_its_target_and_goes_with_it(scaling):
    scaling.endpoint("bare", archive(code__inference_py=SOURCE))
    with pytest.raises(ClientError, match="ObjectNotFoundException.*No scalable target registered"):
        scaling.policy("bare", 1.0)
    scaling.scaling.register_scalable_target(**scaling.ids("bare"), MinCapacity=1, MaxCapacity=1)
    first, second = scaling.policy("bare", 1.0), scaling.policy("bare", 2.0)
    assert first["PolicyARN"] == second["PolicyARN"] and len(scaling.states("bare")) == 2
    scaling.scaling.deregister_scalable_target(**scaling.ids("bare"))
    assert scaling.states("bare") == {}
    assert scaling.refused("deregister_scalable_target", **scaling.ids("bare"))["Code"] == "ObjectNotFoundException"


def test_bounds_move_the_count_without_any_load(scaling):
    scaling.endpoint("bounded", archive(code__inference_py=SOURCE))
    scaling.scaling.register_scalable_target(**scaling.ids("bounded"), MinCapacity=2, MaxCapacity=3)
    until(lambda: scaling.count("bounded") == 2)
    (one,) = until(lambda: [found for found in scaling.activities("bounded") if found["StatusCode"] == "Successful"])
    assert one["Cause"] == "minimum capacity was set to 2"


def test_an_update_may_not_change_the_type_of_a_scaled_variant(scaling):
    scaling.config("other-type", "elastic", instance_type="ml.c5.large")
    scaling.scaling.register_scalable_target(**scaling.ids("elastic"), MinCapacity=1, MaxCapacity=2)
    scaling.until("elastic", "InService")
    said = scaling.refusal("update_endpoint", EndpointName="elastic", EndpointConfigName="other-type")
    assert said.startswith("ValidationException") and "deregister" in said


def test_a_policy_is_described_with_what_was_asked(scaling):
    scaling.scaling.register_scalable_target(**scaling.ids("elastic"), MinCapacity=1, MaxCapacity=2)
    scaling.policy("elastic", 600.0, ScaleInCooldown=120)
    (found,) = scaling.scaling.describe_scaling_policies(ServiceNamespace="sagemaker", ResourceId=scaling.ids("elastic")["ResourceId"])[
        "ScalingPolicies"
    ]
    assert found["TargetTrackingScalingPolicyConfiguration"]["ScaleInCooldown"] == 120
    assert len(found["Alarms"]) == 2, json.dumps(found, default=str)
