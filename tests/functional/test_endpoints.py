"""Endpoints on the local AWS: real processes that run uploaded handlers."""

import contextlib
import io
import json
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor

import numpy
import psutil
import pytest
from botocore.exceptions import ClientError
from test_functions import Functions
from waiting import eventually

from opml.localaws import lifecycle

JPEG = b"\xff\xd8\xff\xe0 not much of an image"

HANDLERS = """
import json, os, time

class Refused(Exception):
    status_code, phrase, message = 415, "Unsupported Media Type", "no such type"

def model_fn(model_dir):
    with open(os.path.join(model_dir, "answer.json")) as file:
        return json.load(file)

def input_fn(data, content_type):
    if content_type == "text/refused":
        raise Refused()
    return {"type": content_type, "python": type(data).__name__, "size": len(data), "data": data if isinstance(data, str) else None}

def predict_fn(data, model):
    if data["data"] == '"broken"':
        raise ValueError("the model broke")
    if data["data"] == '"dies"':
        os._exit(3)
    if data["data"] == '"sleeps"':
        time.sleep(30)
    return {**data, **model, "pid": os.getpid(), "key": os.environ["AWS_ACCESS_KEY_ID"], "threads": os.environ["OMP_NUM_THREADS"]}

def output_fn(prediction, accept):
    return json.dumps(prediction), accept
"""
TRANSFORM = """
def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    return data[::-1], content_type
"""
TOOLKIT = """
from sagemaker_inference import content_types, decoder, default_inference_handler, encoder, errors

def model_fn(model_dir):
    return 2

def input_fn(data, content_type):
    return decoder.decode(data, content_type)

def predict_fn(data, model):
    return data * model

def output_fn(prediction, accept):
    return encoder.encode(prediction, content_types.JSON)
"""


def archive(**files: str) -> bytes:
    """A model.tar.gz; ``__`` in a name stands for a slash and ``_py`` for its ending."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name.replace("__", "/").replace("_py", ".py").replace("_json", ".json"))
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


class Hosting:
    """What a test needs to make an endpoint in one line."""

    def __init__(self, aws):
        self.aws = aws
        self.s3, self.sagemaker, self.runtime, self.logs = (aws.client(n) for n in ("s3", "sagemaker", "sagemaker-runtime", "logs"))
        self.names: list[str] = []

    def model(self, name: str, body: bytes, **environment: str) -> str:
        self.s3.put_object(Bucket=self.aws.bucket, Key=f"{name}/model.tar.gz", Body=body)
        container = {
            "Image": "local/pytorch-inference:2.6", "ModelDataUrl": f"s3://{self.aws.bucket}/{name}/model.tar.gz",
            "Environment": {"SAGEMAKER_PROGRAM": "inference.py", "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code", **environment},
        }  # fmt: skip
        return self.sagemaker.create_model(ModelName=name, ExecutionRoleArn=self.aws.role_arn, PrimaryContainer=container)["ModelArn"]

    def config(self, name: str, model: str, count: int = 1, instance_type: str = "ml.m5.large", **more) -> str:
        variant = {"VariantName": "AllTraffic", "ModelName": model, "InstanceType": instance_type, "InitialInstanceCount": count}
        return self.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant], **more)["EndpointConfigArn"]

    def endpoint(self, name: str, body: bytes, count: int = 1, wait: str | None = "InService", **environment: str) -> str:
        self.model(name, body, **environment)
        self.config(name, name, count)
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
        self.names.append(name)
        return self.until(name, wait) if wait else ""

    def until(self, name: str, status: str) -> str:
        def settled():
            found = self.sagemaker.describe_endpoint(EndpointName=name)
            return found if found["EndpointStatus"] in (status, "Failed") else None

        found = eventually(settled)
        assert found and found["EndpointStatus"] == status, found
        return found.get("FailureReason", "")

    def invoke(self, name: str, body: bytes, content_type: str = "application/json", **more) -> dict:
        answer = self.runtime.invoke_endpoint(EndpointName=name, Body=body, ContentType=content_type, Accept="application/json", **more)
        return json.loads(answer["Body"].read())

    def refusal(self, operation: str, **arguments) -> str:
        client = self.runtime if operation == "invoke_endpoint" else self.sagemaker
        with pytest.raises(ClientError) as caught:
            getattr(client, operation)(**arguments)
        return f"{caught.value.response['Error']['Code']}: {caught.value.response['Error']['Message']}"


@pytest.fixture(scope="module")
def hosting(served):
    made = Hosting(served)
    made.endpoint("dogs", archive(answer_json='{"breed": "Affenpinscher"}', code__inference_py=HANDLERS), count=2)
    yield made
    for name in made.names:
        made.sagemaker.delete_endpoint(EndpointName=name)


def test_text_reaches_the_handlers_as_str_and_an_image_as_bytes(hosting):
    text = hosting.invoke("dogs", b'{"a": 1}')
    image = hosting.invoke("dogs", JPEG, "image/jpeg")
    assert (text["python"], text["type"], text["data"]) == ("str", "application/json", '{"a": 1}')
    assert (image["python"], image["type"], image["size"]) == ("bytes", "image/jpeg", len(JPEG))
    assert image["breed"] == "Affenpinscher"


def test_an_endpoint_runs_with_its_models_role(hosting):
    assert hosting.invoke("dogs", b"{}")["key"].startswith("ASIA")


def test_the_answer_names_the_variant_and_keeps_custom_attributes(hosting):
    answer = hosting.runtime.invoke_endpoint(EndpointName="dogs", Body=b"{}", ContentType="application/json", CustomAttributes="trace=1")
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    assert answer["CustomAttributes"] == "trace=1"
    assert answer["ContentType"] == "application/json"


def test_the_least_busy_instance_answers(hosting):
    with ThreadPoolExecutor(8) as pool:
        seen = {answer["pid"] for answer in pool.map(lambda _: hosting.invoke("dogs", b"{}"), range(40))}
    assert len(seen) == 2


def test_an_error_with_a_status_code_answers_with_that_status(hosting):
    with pytest.raises(hosting.runtime.exceptions.ModelError) as caught:
        hosting.invoke("dogs", b"x", "text/refused")
    said = caught.value.response
    assert said["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert said["OriginalStatusCode"] == 415
    assert said["OriginalMessage"].startswith("no such type\nTraceback")
    assert said["LogStreamArn"].endswith(":log-group:/aws/sagemaker/Endpoints/dogs")
    assert said["Error"]["Message"].startswith('Received client error (415) from primary with message "no such type')


def test_any_other_exception_is_a_server_error(hosting):
    with pytest.raises(hosting.runtime.exceptions.ModelError) as caught:
        hosting.invoke("dogs", b'"broken"')
    assert caught.value.response["OriginalStatusCode"] == 500
    assert "Received server error (500) from primary" in str(caught.value)


def test_an_unknown_endpoint_is_a_validation_error(hosting):
    text = hosting.refusal("invoke_endpoint", EndpointName="cats", Body=b"{}")
    assert text == "ValidationError: Endpoint cats of account 123456789012 not found."


def test_a_body_over_the_limit_is_refused(hosting):
    text = hosting.refusal("invoke_endpoint", EndpointName="dogs", Body=b"x" * 6_291_457)
    assert text.startswith("ValidationError: ") and "6291456" in text


def test_the_models_output_is_in_the_endpoints_log(hosting):
    hosting.invoke("dogs", b"{}")
    events = hosting.logs.filter_log_events(logGroupName="/aws/sagemaker/Endpoints/dogs", logStreamNamePrefix="AllTraffic/i-")["events"]
    assert any(event["message"].startswith("POST /invocations 200") for event in events)


def test_invocations_are_counted_in_cloudwatch(hosting):
    hosting.endpoint("counted", archive(answer_json="{}", code__inference_py=HANDLERS))
    for body in (b"{}", b"{}"):
        hosting.invoke("counted", body)
    hosting.refusal("invoke_endpoint", EndpointName="counted", Body=b"x", ContentType="text/refused")
    sums = {name: total(hosting.aws, "counted", name) for name in ("Invocations", "InvocationsPerInstance", "Invocation4XXErrors")}
    assert sums == {"Invocations": 3, "InvocationsPerInstance": 3, "Invocation4XXErrors": 1}
    assert total(hosting.aws, "counted", "ModelLatency") > 0


def total(aws, endpoint: str, metric: str) -> float:
    """The sum of a metric over the last hour."""
    dimensions = [{"Name": "EndpointName", "Value": endpoint}, {"Name": "VariantName", "Value": "AllTraffic"}]
    points = aws.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/SageMaker", MetricName=metric, Dimensions=dimensions, Period=3600, Statistics=["Sum"],
        StartTime=time.time() - 3600, EndTime=time.time() + 60,
    )["Datapoints"]  # fmt: skip
    return sum(point["Sum"] for point in points)


def test_a_transform_function_serves_alone(hosting):
    hosting.endpoint("reversed", archive(code__inference_py=TRANSFORM))
    answer = hosting.runtime.invoke_endpoint(EndpointName="reversed", Body=b"abc", ContentType="text/csv")
    assert (answer["Body"].read(), answer["ContentType"]) == (b"cba", "text/csv")


def test_handlers_may_import_awss_inference_toolkit(hosting):
    hosting.endpoint("toolkit", archive(code__inference_py=TOOLKIT))
    body = io.BytesIO()
    numpy.save(body, numpy.array([[1, 2]], dtype="uint8"))
    assert hosting.invoke("toolkit", body.getvalue(), "application/x-npy") == [[2, 4]]
    assert "Content type image/jpeg is not supported" in hosting.refusal(
        "invoke_endpoint", EndpointName="toolkit", Body=JPEG, ContentType="image/jpeg"
    )


def test_code_may_come_from_another_archive_in_s3(hosting):
    hosting.s3.put_object(Bucket=hosting.aws.bucket, Key="code/sourcedir.tar.gz", Body=archive(inference_py=TRANSFORM))
    submitted = f"s3://{hosting.aws.bucket}/code/sourcedir.tar.gz"
    hosting.endpoint("apart", archive(answer_json="{}"), SAGEMAKER_SUBMIT_DIRECTORY=submitted)
    assert hosting.runtime.invoke_endpoint(EndpointName="apart", Body=b"ab", ContentType="text/csv")["Body"].read() == b"ba"


def failure_of(hosting: Hosting, name: str) -> str:
    """The FailureReason of an endpoint that is to fail."""
    waiter = hosting.sagemaker.get_waiter("endpoint_in_service")
    with pytest.raises(Exception, match="terminal failure"):
        waiter.wait(EndpointName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})
    return hosting.sagemaker.describe_endpoint(EndpointName=name)["FailureReason"]


def test_a_model_that_does_not_load_fails_the_endpoint(hosting):
    hosting.endpoint("unloadable", archive(code__inference_py="raise RuntimeError('no weights')"), wait=None)
    assert failure_of(hosting, "unloadable").startswith(
        "The primary container for production variant AllTraffic did not pass the ping health check."
    )
    events = hosting.logs.filter_log_events(logGroupName="/aws/sagemaker/Endpoints/unloadable")["events"]
    assert any("RuntimeError: no weights" in event["message"] for event in events)


UNREACHED = """
print('Downloading: "https://download.pytorch.org/models/resnet50-0676ba61.pth" to /w/resnet50-0676ba61.pth')
raise __import__("urllib.error").error.URLError("Temporary failure in name resolution")
"""


def test_weights_that_cannot_be_had_are_named_in_the_endpoints_reason(hosting):
    hosting.endpoint("weightless", archive(code__inference_py=UNREACHED), wait=None)
    assert "Save https://download.pytorch.org/models/resnet50-0676ba61.pth as /w/resnet50" in failure_of(hosting, "weightless")


def test_an_archive_that_is_none_fails_the_endpoint(hosting):
    hosting.endpoint("garbled", b"this is no archive", wait=None)
    assert "Failed to extract model data archive" in failure_of(hosting, "garbled")


def test_a_process_that_dies_is_replaced(hosting):
    hosting.endpoint("mortal", archive(answer_json="{}", code__inference_py=HANDLERS))
    before = hosting.invoke("mortal", b"{}")["pid"]
    assert "(500)" in hosting.refusal("invoke_endpoint", EndpointName="mortal", Body=b'"dies"', ContentType="application/json")

    def revived():
        with contextlib.suppress(hosting.runtime.exceptions.ModelError):
            return hosting.invoke("mortal", b"{}")["pid"]

    assert eventually(revived) not in (None, before)


def test_instances_follow_the_desired_count(hosting):
    hosting.endpoint("resized", archive(answer_json="{}", code__inference_py=HANDLERS))
    for count in (3, 1):
        change = [{"VariantName": "AllTraffic", "DesiredInstanceCount": count}]
        hosting.sagemaker.update_endpoint_weights_and_capacities(EndpointName="resized", DesiredWeightsAndCapacities=change)
        assert "in-progress" in hosting.refusal(
            "update_endpoint_weights_and_capacities", EndpointName="resized", DesiredWeightsAndCapacities=change
        )
        hosting.until("resized", "InService")
        variant = hosting.sagemaker.describe_endpoint(EndpointName="resized")["ProductionVariants"][0]
        assert (variant["CurrentInstanceCount"], variant["DesiredInstanceCount"], variant["CurrentWeight"]) == (count, count, 1.0)


def test_update_endpoint_replaces_the_fleet_without_a_gap(hosting):
    hosting.endpoint("updated", archive(answer_json='{"breed": "old"}', code__inference_py=HANDLERS))
    hosting.model("updated-2", archive(answer_json='{"breed": "new"}', code__inference_py=HANDLERS))
    hosting.config("updated-2", "updated-2", instance_type="ml.m6i.large")
    hosting.sagemaker.update_endpoint(EndpointName="updated", EndpointConfigName="updated-2")
    assert hosting.invoke("updated", b"{}")["breed"] in ("old", "new")
    hosting.until("updated", "InService")
    assert hosting.invoke("updated", b"{}")["breed"] == "new"
    assert hosting.sagemaker.describe_endpoint(EndpointName="updated")["EndpointConfigName"] == "updated-2"


def test_a_failed_update_keeps_the_old_fleet(hosting):
    hosting.endpoint("kept", archive(answer_json='{"breed": "old"}', code__inference_py=HANDLERS))
    hosting.model("kept-2", archive(code__inference_py="1/0"))
    hosting.config("kept-2", "kept-2")
    hosting.sagemaker.update_endpoint(EndpointName="kept", EndpointConfigName="kept-2")
    assert "ping health check" in hosting.until("kept", "InService")
    assert hosting.invoke("kept", b"{}")["breed"] == "old"


def test_a_deleted_endpoint_leaves_no_process(hosting):
    hosting.endpoint("gone", archive(answer_json="{}", code__inference_py=HANDLERS), count=2)
    pids = {hosting.invoke("gone", b"{}")["pid"] for _ in range(6)}
    hosting.names.remove("gone")
    hosting.sagemaker.delete_endpoint(EndpointName="gone")
    assert not any(running(pid) for pid in pids)
    assert "Could not find endpoint" in hosting.refusal("describe_endpoint", EndpointName="gone")
    assert "not found" in hosting.refusal("invoke_endpoint", EndpointName="gone", Body=b"{}")


def running(pid: int) -> bool:
    return psutil.pid_exists(pid)


def test_an_endpoint_may_be_deleted_while_it_is_created(hosting):
    slow = "import os, pathlib, time\npathlib.Path(os.environ['MARK']).write_text(str(os.getpid()))\ntime.sleep(60)"
    mark = hosting.aws.folder / "hasty.pid"
    hosting.endpoint("hasty", archive(code__inference_py=slow), wait=None, MARK=str(mark))
    assert eventually(lambda: mark.exists() and mark.read_text())
    hosting.names.remove("hasty")
    hosting.sagemaker.delete_endpoint(EndpointName="hasty")
    assert not running(int(mark.read_text()))


def test_a_name_is_used_once(hosting):
    again = hosting.refusal("create_endpoint", EndpointName="dogs", EndpointConfigName="dogs")
    assert again == (
        'ValidationException: Cannot create already existing endpoint "arn:aws:sagemaker:us-east-1:123456789012:endpoint/dogs".'
    )
    variant = {"VariantName": "AllTraffic", "ModelName": "dogs", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    text = hosting.refusal("create_endpoint_config", EndpointConfigName="dogs", ProductionVariants=[variant])
    assert "Cannot create already existing endpoint configuration" in text
    assert "Cannot create already existing model" in hosting.refusal(
        "create_model", ModelName="dogs", ExecutionRoleArn=hosting.aws.role_arn
    )


def test_an_unknown_configuration_is_refused(hosting):
    text = hosting.refusal("create_endpoint", EndpointName="new", EndpointConfigName="none")
    assert text == (
        'ValidationException: Could not find endpoint configuration "arn:aws:sagemaker:us-east-1:123456789012:endpoint-config/none".'
    )


def test_instance_types_are_those_of_the_api(hosting):
    hosting.config("modern", "dogs", instance_type="ml.g5.xlarge")
    variant = {"VariantName": "AllTraffic", "ModelName": "dogs", "InstanceType": "ml.t3.medium", "InitialInstanceCount": 1}
    assert "enum value set" in hosting.refusal("create_endpoint_config", EndpointConfigName="burst", ProductionVariants=[variant])


def test_descriptions_have_no_empty_members(hosting):
    for described in (
        hosting.sagemaker.describe_endpoint_config(EndpointConfigName="dogs"), hosting.sagemaker.describe_endpoint(EndpointName="dogs"),
        hosting.sagemaker.describe_model(ModelName="dogs"),
    ):  # fmt: skip
        assert not [key for key, value in described.items() if value in ({}, [], "")]


def test_tags_given_at_creation_are_listed_and_can_be_changed(hosting):
    arn = hosting.config("tagged", "dogs", Tags=[{"Key": "opml:run_id", "Value": "first"}])
    hosting.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "opml:run_id", "Value": "second"}, {"Key": "x", "Value": "1"}])
    tags = hosting.sagemaker.list_tags(ResourceArn=arn)["Tags"]
    assert tags == [{"Key": "opml:run_id", "Value": "second"}, {"Key": "x", "Value": "1"}]
    endpoint = hosting.sagemaker.describe_endpoint(EndpointName="dogs")["EndpointArn"]
    assert hosting.sagemaker.list_tags(ResourceArn=endpoint)["Tags"] == []
    assert "does not exist" in hosting.refusal("list_tags", ResourceArn=arn.replace("tagged", "none"))


def test_the_end_of_the_server_is_the_end_of_endpoints_and_functions(served, tmp_path):
    local = lifecycle.start(register=False)
    aws = type(served)(local, tmp_path)
    hosting, functions = Hosting(aws), Functions(aws)
    hosting.endpoint("last", archive(answer_json="{}", code__inference_py=HANDLERS))
    functions.create("last")
    pids = [hosting.invoke("last", b"{}")["pid"], functions.call("last")["pid"]]
    local.stop()
    assert not any(running(pid) for pid in pids)
