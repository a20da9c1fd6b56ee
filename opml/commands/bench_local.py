"""``python -m opml bench local``: the local AWS under load, in a world of its own, as JSON lines.

Its start until it answers, its memory at rest, what it adds to an endpoint's answer, and many calls from many threads at once. The model
answers at once, so that the time of an InvokeEndpoint is the local AWS's own.
"""

import argparse
import io
import json
import statistics
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import psutil
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, WaiterError

from opml import images
from opml.aws import Aws, connect, world_of_its_own
from opml.commands import at_least
from opml.errors import OpmlError

HANDLERS = """
def model_fn(folder): return None
def input_fn(body, content_type): return body
def predict_fn(data, model): return [len(data)]
"""
INSTANCE, VARIANT = "ml.m5.large", "all"
ALONE = 500  # calls one after the other
MINUTE = timedelta(minutes=1)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``bench local``."""
    parser.add_argument("--threads", type=at_least(1), default=50, help="threads that call at one time (50)")
    parser.add_argument("--calls", type=at_least(1), default=1500, help="mixed calls to five services (1500)")
    parser.add_argument("--invocations", type=at_least(1), default=500, help="calls of an endpoint from all threads (500)")


def run(args: argparse.Namespace) -> int:
    """Measure; exit code 1 if a call failed."""
    begun = time.perf_counter()
    with world_of_its_own("local"):
        _print(stage="start", seconds=round(time.perf_counter() - begun, 2), memory_mb=_memory())
        aws, config = connect("local", "bench"), Config(max_pool_connections=args.threads, retries={"total_max_attempts": 1})
        endpoint = _endpoint(aws)
        invoke = _invocation(endpoint, aws.client("sagemaker-runtime", config=config))
        _print(stage="invoke alone", calls=ALONE, **_overhead(aws, endpoint, invoke))
        failed = _burst("invoke together", [invoke] * args.invocations, args.threads)
        failed += _burst("mixed calls", _mixed(aws, config, invoke, args.calls), args.threads)
    return 1 if failed else 0


def _memory() -> int:
    """MB that the local AWS's processes hold (PSS); they are this process's children."""
    return round(sum(child.memory_full_info().pss for child in psutil.Process().children(recursive=True)) / 1e6)


def _overhead(aws: Aws, endpoint: str, invoke: Callable[[], object]) -> dict[str, float]:
    """What a call takes beside the model's time: all of it as its caller sees it, and the part that CloudWatch's OverheadLatency says.

    The first includes the caller's own work, boto3's request and signature. Medians, in milliseconds.
    """
    whole = 1000 * statistics.median(_seconds(invoke) for _ in range(ALONE))
    model, overhead = (_median_metric(aws, endpoint, name) for name in ("ModelLatency", "OverheadLatency"))
    figures = {"call_ms": whole, "model_ms": model, "beside_model_ms": whole - model, "overhead_latency_ms": overhead}
    return {name: round(value, 2) for name, value in figures.items()}


def _median_metric(aws: Aws, endpoint: str, name: str) -> float:
    """One of the endpoint's metrics in microseconds, as CloudWatch has it of the last hour, in milliseconds."""
    now = datetime.now(UTC)
    dimensions = [{"Name": "EndpointName", "Value": endpoint}, {"Name": "VariantName", "Value": VARIANT}]
    found = aws.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/SageMaker", MetricName=name, Dimensions=dimensions, StartTime=now - timedelta(hours=1), EndTime=now + MINUTE,
        Period=7200, ExtendedStatistics=["p50"],
    )  # fmt: skip
    return found["Datapoints"][0]["ExtendedStatistics"]["p50"] / 1000


def _endpoint(aws: Aws) -> str:
    """An endpoint whose model does nothing, in service."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        entry = tarfile.TarInfo("code/inference.py")
        entry.size = len(HANDLERS)
        archive.addfile(entry, io.BytesIO(HANDLERS.encode()))
    aws.client("s3").put_object(Bucket=aws.bucket, Key="opml/bench/model.tar.gz", Body=packed.getvalue())
    sagemaker, name = aws.client("sagemaker"), aws.name("endpoint")
    container = {"Image": images.image_uri(aws, "inference"), "ModelDataUrl": aws.uri("model.tar.gz")}
    sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=aws.role_arn, Tags=aws.tags)
    variant = {"VariantName": VARIANT, "ModelName": name, "InstanceType": INSTANCE, "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant], Tags=aws.tags)
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name, Tags=aws.tags)
    try:
        sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    except WaiterError as error:
        raise OpmlError(
            f"the endpoint did not start: {sagemaker.describe_endpoint(EndpointName=name).get('FailureReason', error)}"
        ) from error
    return name


def _invocation(endpoint: str, runtime) -> Callable[[], object]:
    return lambda: runtime.invoke_endpoint(EndpointName=endpoint, Body=b"x", ContentType="application/octet-stream")["Body"].read()


def _mixed(aws: Aws, config: Config, invoke: Callable[[], object], count: int) -> Iterator[Callable[[], object]]:
    """Writing and reading back, listing and asking, of several services in turn."""
    s3, sagemaker, logs = (aws.client(name, config=config) for name in ("s3", "sagemaker", "logs"))
    sts, functions = (aws.client(name, config=config) for name in ("sts", "lambda"))

    def written_and_read(number: int) -> None:
        place, body = {"Bucket": aws.bucket, "Key": f"opml/bench/{number}"}, str(number).encode()
        s3.put_object(**place, Body=body)
        if s3.get_object(**place)["Body"].read() != body:
            raise LookupError(f"object {number} was lost")

    kinds = [
        invoke, sts.get_caller_identity, sagemaker.list_training_jobs, sagemaker.list_endpoints, logs.describe_log_groups,
        functions.list_functions,
    ]  # fmt: skip
    for number in range(count):
        which = number % (len(kinds) + 1)
        yield kinds[which] if which < len(kinds) else lambda number=number: written_and_read(number)


def _burst(stage: str, calls, threads: int) -> int:
    """Make all calls from so many threads; the number of those that failed."""
    begun, calls = time.perf_counter(), list(calls)
    with ThreadPoolExecutor(threads) as pool:
        outcomes = Counter(pool.map(_outcome, calls))
    _print(stage=stage, threads=threads, calls=len(calls), seconds=round(time.perf_counter() - begun, 2), outcomes=dict(outcomes))
    return len(calls) - outcomes["ok"]


def _outcome(call: Callable[[], object]) -> str:
    try:
        call()
    except (ClientError, BotoCoreError, LookupError) as error:
        return f"{type(error).__name__}: {error}"
    return "ok"


def _seconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def _print(**row: object) -> None:
    print(json.dumps(row), flush=True)
