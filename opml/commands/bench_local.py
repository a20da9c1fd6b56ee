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

import psutil
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, WaiterError

from opml import estimators
from opml.aws import Aws, connect, world_of_its_own
from opml.errors import OpmlError

HANDLERS = """
def model_fn(folder): return None
def input_fn(body, content_type): return body
def predict_fn(data, model): return [len(data)]
"""
INSTANCE = "ml.m5.large"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``bench local``."""
    parser.add_argument("--threads", type=int, default=50, help="threads that call at one time (50)")
    parser.add_argument("--calls", type=int, default=1500, help="mixed calls to five services (1500)")
    parser.add_argument("--invocations", type=int, default=500, help="calls of an endpoint from all threads (500)")


def run(args: argparse.Namespace) -> int:
    """Measure; exit code 1 if a call failed."""
    begun = time.perf_counter()
    with world_of_its_own("local"):
        _print(stage="start", seconds=round(time.perf_counter() - begun, 2), memory_mb=_memory())
        aws, config = connect("local", "bench"), Config(max_pool_connections=args.threads, retries={"total_max_attempts": 1})
        invoke = _invocation(_endpoint(aws), aws.client("sagemaker-runtime", config=config))
        alone = [_seconds(invoke) for _ in range(300)][50:]  # the first ones open connections
        _print(stage="invoke alone", median_ms=round(1000 * statistics.median(alone), 2), calls=len(alone))
        failed = _burst("invoke together", [invoke] * args.invocations, args.threads)
        failed += _burst("mixed calls", _mixed(aws, config, invoke, args.calls), args.threads)
    return 1 if failed else 0


def _memory() -> int:
    """MB that the local AWS's processes hold (PSS); they are this process's children."""
    return round(sum(child.memory_full_info().pss for child in psutil.Process().children(recursive=True)) / 1e6)


def _endpoint(aws: Aws) -> str:
    """An endpoint whose model does nothing, in service."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        entry = tarfile.TarInfo("code/inference.py")
        entry.size = len(HANDLERS)
        archive.addfile(entry, io.BytesIO(HANDLERS.encode()))
    aws.client("s3").put_object(Bucket=aws.bucket, Key="opml/bench/model.tar.gz", Body=packed.getvalue())
    sagemaker, name = aws.client("sagemaker"), aws.name("endpoint")
    container = {"Image": estimators.image_uri(aws, "inference"), "ModelDataUrl": aws.uri("model.tar.gz")}
    sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=aws.role_arn, Tags=aws.tags)
    variant = {"VariantName": "all", "ModelName": name, "InstanceType": INSTANCE, "InitialInstanceCount": 1}
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
