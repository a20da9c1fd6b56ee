"""Several variants behind one endpoint, data capture, latency percentiles."""

import base64
import json
import time
from collections import Counter

import pytest
from served import until
from test_endpoints import Hosting, archive

SOURCE = """
import json, os, time

def model_fn(model_dir):
    with open(os.path.join(model_dir, "answer.json")) as file:
        return json.load(file)

def transform_fn(model, data, content_type, accept):
    time.sleep(model.get("seconds", 0))
    return json.dumps(model), "application/json"
"""


class Variants(Hosting):
    """Endpoints of two variants, ``old`` and ``new``."""

    def two(self, name: str, weights: tuple[float, float], **config) -> None:
        variants = []
        for variant, weight in zip(("old", "new"), weights, strict=True):
            self.model(f"{name}-{variant}", archive(answer_json=json.dumps({"from": variant}), code__inference_py=SOURCE))
            variants.append(
                {"VariantName": variant, "ModelName": f"{name}-{variant}", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1,
                 "InitialVariantWeight": weight}
            )  # fmt: skip
        self.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=variants, **config)
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
        self.names.append(name)
        self.until(name, "InService")

    def seen(self, name: str, calls: int = 100) -> Counter:
        return Counter(self.invoke(name, b"{}")["from"] for _ in range(calls))

    def shown(self, name: str) -> dict[str, dict]:
        found = self.sagemaker.describe_endpoint(EndpointName=name)["ProductionVariants"]
        return {variant["VariantName"]: variant for variant in found}

    def captured(self, prefix: str) -> list[tuple[str, list[dict]]]:
        """(key, lines) of the captured files."""
        keys = [one["Key"] for one in self.s3.list_objects_v2(Bucket=self.aws.bucket, Prefix=prefix).get("Contents", [])]
        bodies = [self.s3.get_object(Bucket=self.aws.bucket, Key=key)["Body"].read().decode() for key in keys]
        return [(key, [json.loads(line) for line in body.splitlines()]) for key, body in zip(keys, bodies, strict=True)]


@pytest.fixture(scope="module")
def hosting(served):
    made = Variants(served)
    made.two("pair", (3.0, 1.0))
    yield made
    for name in made.names:
        made.sagemaker.delete_endpoint(EndpointName=name)


def test_traffic_follows_the_weights_and_a_target_is_obeyed(hosting):
    seen = hosting.seen("pair", 200)
    assert 110 < seen["old"] < 190, "three quarters of 200; outside of this once in 10 million runs"
    assert {hosting.invoke("pair", b"{}", TargetVariant="new")["from"] for _ in range(10)} == {"new"}
    assert "Variant none not found" in hosting.refusal("invoke_endpoint", EndpointName="pair", Body=b"", TargetVariant="none")


def test_weights_and_counts_change_with_updating_in_between(hosting):
    hosting.two("moved", (1.0, 0.0))
    assert set(hosting.seen("moved", 20)) == {"old"}
    change = [{"VariantName": "old", "DesiredWeight": 0.0}, {"VariantName": "new", "DesiredWeight": 1.0, "DesiredInstanceCount": 2}]
    hosting.sagemaker.update_endpoint_weights_and_capacities(EndpointName="moved", DesiredWeightsAndCapacities=change)
    between = hosting.sagemaker.describe_endpoint(EndpointName="moved")
    assert between["EndpointStatus"] == "Updating"
    assert [variant["DesiredWeight"] for variant in between["ProductionVariants"]] == [0.0, 1.0]
    hosting.until("moved", "InService")
    assert (hosting.shown("moved")["new"]["CurrentInstanceCount"], hosting.shown("moved")["old"]["CurrentInstanceCount"]) == (2, 1)
    assert set(hosting.seen("moved", 20)) == {"new"}


def test_an_update_may_retain_counts_and_weights(hosting):
    hosting.two("retained", (1.0, 0.0))
    change = [{"VariantName": "new", "DesiredWeight": 5.0}]
    hosting.sagemaker.update_endpoint_weights_and_capacities(EndpointName="retained", DesiredWeightsAndCapacities=change)
    hosting.until("retained", "InService")
    hosting.sagemaker.update_endpoint(EndpointName="retained", EndpointConfigName="retained", RetainAllVariantProperties=True)
    hosting.until("retained", "InService")
    assert hosting.shown("retained")["new"]["CurrentWeight"] == 5.0


def test_requests_and_answers_are_captured_in_awss_layout(hosting):
    hosting.two("watched", (1.0, 0.0), DataCaptureConfig=capture(hosting, 100))
    attributes = {"CustomAttributes": "trace=7"}
    hosting.runtime.invoke_endpoint(EndpointName="watched", Body=b"\xff\xd8", ContentType="image/jpeg", **attributes)
    hosting.invoke("watched", b'{"a": 1}')
    files = until(lambda: (found := hosting.captured("captured/watched/old/")) and sum(len(lines) for _, lines in found) == 2 and found)
    lines = [line for _, found in files for line in found]
    parts = files[0][0].split("/")
    assert (len(parts), len(parts[-1].split("-")), parts[-1].endswith(".jsonl")) == (8, 8, True), parts
    picture, text = (line["captureData"] for line in lines)
    assert base64.b64decode(picture["endpointInput"]["data"]) == b"\xff\xd8"
    assert (picture["endpointInput"]["observedContentType"], picture["endpointInput"]["encoding"]) == ("image/jpeg", "BASE64")
    assert text["endpointInput"] == {"observedContentType": "application/json", "mode": "INPUT", "data": '{"a": 1}', "encoding": "JSON"}
    assert text["endpointOutput"]["mode"] == "OUTPUT" and json.loads(text["endpointOutput"]["data"]) == {"from": "old"}
    assert (lines[0]["eventVersion"], lines[0]["eventMetadata"]["customAttributes"]) == ("0", ["trace=7"])
    shown = hosting.sagemaker.describe_endpoint(EndpointName="watched")["DataCaptureConfig"]
    assert (shown["CaptureStatus"], shown["CurrentSamplingPercentage"]) == ("Started", 100)


def capture(hosting, percent: int) -> dict:
    modes = [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}]
    where = f"s3://{hosting.aws.bucket}/captured"
    return {"EnableCapture": True, "InitialSamplingPercentage": percent, "DestinationS3Uri": where, "CaptureOptions": modes}


def test_a_sample_of_a_third_captures_about_a_third(hosting):
    hosting.two("sampled", (1.0, 0.0), DataCaptureConfig=capture(hosting, 33))
    hosting.seen("sampled", 150)
    hosting.sagemaker.update_endpoint(EndpointName="sampled", EndpointConfigName="sampled")  # writes what is still collected
    hosting.until("sampled", "InService")
    kept = sum(len(lines) for _, lines in hosting.captured("captured/sampled/"))
    assert 20 < kept < 80


def test_latency_has_percentiles_in_both_operations(hosting):
    hosting.endpoint("timed", archive(answer_json='{"seconds": 0.02}', code__inference_py=SOURCE))
    for _ in range(20):
        hosting.invoke("timed", b"{}")
    cloudwatch = hosting.aws.client("cloudwatch")
    dimensions = [{"Name": "EndpointName", "Value": "timed"}, {"Name": "VariantName", "Value": "AllTraffic"}]
    window = {"StartTime": time.time() - 600, "EndTime": time.time() + 60}
    asked = {"Namespace": "AWS/SageMaker", "Dimensions": dimensions, "Period": 3600, **window}
    names = ["p50", "p90", "p99"]
    point = cloudwatch.get_metric_statistics(**asked, MetricName="ModelLatency", ExtendedStatistics=names, Statistics=["Maximum"])[
        "Datapoints"
    ][0]
    values = [point["ExtendedStatistics"][name] for name in names]
    assert 20_000 <= values[0] <= values[1] <= values[2] <= point["Maximum"], "microseconds"
    metric = {"Namespace": "AWS/SageMaker", "MetricName": "ModelLatency", "Dimensions": dimensions}
    query = {"Id": "m", "MetricStat": {"Metric": metric, "Period": 3600, "Stat": "p90"}}
    assert cloudwatch.get_metric_data(MetricDataQueries=[query], **window)["MetricDataResults"][0]["Values"] == pytest.approx([values[1]])
    overhead = cloudwatch.get_metric_statistics(**asked, MetricName="OverheadLatency", Statistics=["SampleCount"])["Datapoints"][0]
    assert overhead["SampleCount"] == 20
