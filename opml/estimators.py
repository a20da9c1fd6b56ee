"""Training, tuning and hosting through the SageMaker SDK: the cargo is staged here, the estimators are built here.

Builders return SDK objects; the notebook calls ``fit`` and ``deploy``. ``ensure_*`` are for notebooks that stand alone: they find
what an earlier notebook of the same run made, else make it and say so.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import re
import secrets
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from botocore.exceptions import ClientError, WaiterError

from opml.core.config import TrainConfig
from opml.core.metrics import METRICS, VALID_LOSS, read_history
from opml.errors import BadInput, NotFound, OpmlError

if TYPE_CHECKING:
    from sagemaker.predictor import Predictor
    from sagemaker.pytorch import PyTorch, PyTorchModel
    from sagemaker.tuner import HyperparameterTuner

    from opml.aws import Aws

REPOSITORY = Path(__file__).resolve().parents[1]
CHANNEL = "training"
LOG_GROUP = "/aws/sagemaker/TrainingJobs"


# --- images -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Image:
    """An AWS deep learning container: the day its patches end (ISO date) is the day to move on."""

    purpose: str  # training or inference
    version: str  # of PyTorch
    python: str
    end_of_patch: str

    def tag(self, accelerator: str) -> str:
        """The image's tag, for example 2.12-cpu-py312."""
        return f"{self.version}-{accelerator}-{self.python}"


# Read 2026-11-20 in AWS's support policy. There is no PyTorch inference image after 2.6.
IMAGES: tuple[Image, ...] = (
    Image("training", "2.12", "py312", "2027-07-02"),
    Image("inference", "2.6.0", "py312", "2026-06-30"),
)
KNOWN_TO_SDK = {"training": "2.8.0", "inference": "2.6.0"}  # the newest versions whose registry SDK 2.257 can name


def image_uri(aws: Aws, purpose: str = "training", accelerator: str = "cpu") -> str:
    """The container image of training or inference in the account's region.

    The SDK knows the registry of each region but not the newest versions: its answer for a version it knows is kept up to
    the tag.

    Raises
    ------
    BadInput
        Another purpose or accelerator than training/inference, cpu/gpu.
    """
    from sagemaker import image_uris

    if purpose not in KNOWN_TO_SDK or accelerator not in ("cpu", "gpu"):
        raise BadInput(f"no image for {purpose!r} on {accelerator!r}: choose training or inference, cpu or gpu")
    image = next(image for image in IMAGES if image.purpose == purpose)
    instance = {"cpu": "ml.m5.large", "gpu": "ml.g4dn.xlarge"}[accelerator]
    known = image_uris.retrieve(
        "pytorch", aws.region, version=KNOWN_TO_SDK[purpose], py_version="py312", instance_type=instance, image_scope=purpose
    )
    return f"{known.rpartition(':')[0]}:{image.tag(accelerator)}"


def accelerator_of(instance_type: str) -> str:
    """``gpu`` for instance types of the g and p families, else ``cpu``."""
    return "gpu" if instance_type.startswith(("ml.g", "ml.p")) else "cpu"


# --- the cargo and the data -------------------------------------------------------------------------------------------


def stage_source(door: str = "hpo.py", folder: str | Path | None = None) -> Path:
    """Copy what travels, and nothing else, into a folder: the door, ``opml/__init__.py`` and ``opml/core/*.py``.

    A ``setup.py`` in that folder would turn the script into a package, which the containers' launcher refuses.

    Parameters
    ----------
    folder : path, optional
        An empty or new folder. Default: a temporary one that is removed when Python ends.

    Raises
    ------
    BadInput
        The door does not exist, or the folder has something in it.
    """
    if not (REPOSITORY / door).is_file():
        raise BadInput(f"there is no door {door!r} at the top of the repository: use hpo.py or ec2train.py")
    target = _temporary("opml-source-") if folder is None else Path(folder)
    if target.is_dir() and any(target.iterdir()):
        raise BadInput(f"folder {target} is not empty: stage into a new one, so that nothing else travels")
    (target / "opml" / "core").mkdir(parents=True)
    core = sorted((REPOSITORY / "opml" / "core").glob("*.py"))
    for source in [REPOSITORY / door, REPOSITORY / "opml" / "__init__.py", *core]:
        shutil.copyfile(source, target / source.relative_to(REPOSITORY))
    return target


def _temporary(prefix: str) -> Path:
    folder = tempfile.mkdtemp(prefix=prefix)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def upload_sample(aws: Aws, folder: str | Path) -> str:
    """Make the run's data channel in S3 equal to a folder: new files are sent, files that are gone are deleted.

    Returns
    -------
    str
        The S3 URI of the channel.

    Raises
    ------
    BadInput
        The folder does not exist or has no ``train`` folder.
    """
    return _upload(aws, Path(folder), {"folder": digest(folder)})


def _upload(aws: Aws, folder: Path, origin: dict) -> str:
    if not (folder / "train").is_dir():
        raise BadInput(f"{folder} has no folder train/: name the folder that holds train/, valid/ and test/")
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    s3, prefix = aws.client("s3"), _key(aws, "data") + "/"
    stale = [key for key in _keys(aws, prefix) if key.removeprefix(prefix) not in files]
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda name: s3.upload_file(str(files[name]), aws.bucket, prefix + name), files))
        list(pool.map(lambda key: s3.delete_object(Bucket=aws.bucket, Key=key), stale))
    # Written last and beside the channel: a channel without it was interrupted, and is sent again.
    s3.put_object(Bucket=aws.bucket, Key=_key(aws, "data.json"), Body=json.dumps({"files": len(files), **origin}).encode())
    return aws.uri("data")


def digest(folder: str | Path) -> str:
    """A fingerprint of a data folder: names and sizes of its files."""
    folder = Path(folder)
    names = [f"{p.relative_to(folder).as_posix()} {p.stat().st_size}" for p in sorted(folder.rglob("*")) if p.is_file()]
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]


def _key(aws: Aws, *parts: str) -> str:
    return aws.uri(*parts).removeprefix(f"s3://{aws.bucket}/")


def _keys(aws: Aws, prefix: str) -> list[str]:
    pages = aws.client("s3").get_paginator("list_objects_v2").paginate(Bucket=aws.bucket, Prefix=prefix)
    return [item["Key"] for page in pages for item in page.get("Contents", [])]


def ensure_data(aws: Aws, folder: str | Path | None = None, **sample) -> str:
    """The run's data channel: what an earlier notebook uploaded, else the folder, else a generated sample.

    Parameters
    ----------
    folder : path, optional
        A folder in the dogImages layout; it is uploaded unless the channel already holds the same files.
    **sample
        Arguments of ``opml.core.sample.make_sample`` for a channel that must be drawn.

    Returns
    -------
    str
        The S3 URI of the channel.
    """
    wanted = {"folder": digest(folder)} if folder else {"sample": sample}
    found = _uploaded(aws)
    if found and (found.items() >= wanted.items() or not (folder or sample)):
        return aws.uri("data")
    if folder:
        return upload_sample(aws, folder)
    from opml.core.sample import make_sample

    print(f"no such data of run {aws.run_id} yet: drawing a generated sample and uploading it", flush=True)
    return _upload(aws, Path(make_sample(_temporary("opml-sample-") / "sample", **sample)), wanted)


def _uploaded(aws: Aws) -> dict | None:
    try:
        return json.load(aws.client("s3").get_object(Bucket=aws.bucket, Key=_key(aws, "data.json"))["Body"])
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("NoSuchKey", "NoSuchBucket", "404"):
            raise
        return None


# --- estimators -------------------------------------------------------------------------------------------------------


def pytorch_estimator(
    aws: Aws, config: TrainConfig, what: str = "train", *, instance_type: str = "ml.m5.large", instance_count: int = 1, **options
) -> PyTorch:
    """An estimator of ``hpo.py``; call ``fit({"training": uri})`` on it.

    The script joins its processes itself (gloo on CPU, nccl on GPU), so more than one instance needs no ``distribution``.

    Parameters
    ----------
    what : str
        Part of the job's name: ``opml-<run_id>-<what>-<time>``.
    **options
        Anything the SDK's ``PyTorch`` takes. With ``rules`` the Debugger is on; with profiler rules or a ``profiler_config``
        the profiler too; otherwise both are off.
    """
    from sagemaker.pytorch import PyTorch

    options.setdefault("debugger_hook_config", None if options.get("rules") else False)
    options.setdefault("disable_profiler", not _asks_for_profiler(options))
    options.setdefault("image_uri", image_uri(aws, "training", accelerator_of(instance_type)))
    return PyTorch(
        entry_point="hpo.py",
        source_dir=str(stage_source("hpo.py")),
        hyperparameters=config.hyperparameters(),
        metric_definitions=[metric.definition() for metric in METRICS],
        role=aws.role_arn,
        sagemaker_session=aws.sagemaker_session,
        instance_type=instance_type,
        instance_count=instance_count,
        base_job_name=aws.name(what),
        output_path=aws.uri("jobs"),
        code_location=aws.uri("code"),
        max_run=options.pop("max_run", 3600),  # a job that hangs is ended, and billed, after an hour
        tags=aws.tags,
        **options,
    )


def _asks_for_profiler(options: dict) -> bool:
    return "profiler_config" in options or any(type(rule).__name__ == "ProfilerRule" for rule in options.get("rules") or ())


def search_space() -> dict:
    """The ranges that tuning draws from: a learning rate on a log scale, and the global batch size."""
    from sagemaker.tuner import CategoricalParameter, ContinuousParameter

    return {
        "learning_rate": ContinuousParameter(1e-4, 1e-2, scaling_type="Logarithmic"),
        "batch_size": CategoricalParameter([16, 32]),
    }


def hyperparameter_tuner(
    aws: Aws, estimator: PyTorch, ranges: dict, *, max_jobs: int = 3, max_parallel_jobs: int = 1, random_seed: int = 0
) -> HyperparameterTuner:
    """A tuner that minimises the validation loss by random search; call ``fit({"training": uri})`` on it.

    The objective is validation, never test: a test set that chose the model measures nothing any more.
    """
    from sagemaker.tuner import HyperparameterTuner

    return HyperparameterTuner(
        estimator,
        objective_metric_name=VALID_LOSS.name,
        objective_type=VALID_LOSS.direction,
        hyperparameter_ranges=ranges,
        metric_definitions=[metric.definition() for metric in METRICS],
        strategy="Random",
        random_seed=random_seed,
        max_jobs=max_jobs,
        max_parallel_jobs=max_parallel_jobs,
        base_tuning_job_name=_tuning_base(aws),
        tags=aws.tags,
    )


def _tuning_base(aws: Aws) -> str:
    """At most 20 characters: a tuning job's name has 32, and the SDK adds a time that only changes each minute."""
    return f"opml-{aws.run_id}"[:15].rstrip("-") + "-" + secrets.token_hex(2)


def pytorch_model(aws: Aws, model_data: str, what: str = "model") -> PyTorchModel:
    """A model that answers with ``hpo.py``'s handlers; call ``deploy(...)`` on it.

    Parameters
    ----------
    model_data : str
        S3 URI of a ``model.tar.gz`` (``estimator.model_data``).
    """
    from sagemaker.pytorch import PyTorchModel
    from sagemaker.utils import name_from_base

    image = next(image for image in IMAGES if image.purpose == "inference")
    model = PyTorchModel(
        model_data=model_data,
        name=name_from_base(aws.name(what)),
        role=aws.role_arn,
        entry_point="hpo.py",
        source_dir=str(stage_source("hpo.py")),
        image_uri=image_uri(aws, "inference"),
        framework_version=image.version,
        py_version=image.python,
        code_location=aws.uri("code"),
        env={"OMP_NUM_THREADS": "1", "SAGEMAKER_MODEL_SERVER_WORKERS": "1"},
        predictor_cls=lambda name, session: _predictor(name, session),
        sagemaker_session=aws.sagemaker_session,
    )
    model.add_tags(aws.tags)  # deploy() hands them on to model, configuration and endpoint
    return model


def predictor(aws: Aws, endpoint_name: str) -> Predictor:
    """A client of an endpoint: ``predict(jpeg bytes)`` returns the decoded JSON answer.

    Raises
    ------
    NotFound
        There is no endpoint of that name.
    """
    if _endpoint_status(aws, endpoint_name) is None:
        raise NotFound(f"endpoint {endpoint_name!r} does not exist in {aws.region}: deploy one, or list them with opml.resources.inventory")
    return _predictor(endpoint_name, aws.sagemaker_session)


def _predictor(endpoint_name: str, session) -> Predictor:
    from sagemaker.deserializers import JSONDeserializer
    from sagemaker.predictor import Predictor
    from sagemaker.serializers import IdentitySerializer

    return Predictor(endpoint_name, session, serializer=IdentitySerializer("image/jpeg"), deserializer=JSONDeserializer())


# --- find, wait, read -------------------------------------------------------------------------------------------------


def _of_this_run(aws: Aws, arn: str) -> bool:
    tags = aws.client("sagemaker").list_tags(ResourceArn=arn)["Tags"]
    return {"Key": "opml:run_id", "Value": aws.run_id} in tags


def find_training_job(aws: Aws, what: str = "train") -> str | None:
    """The newest completed training job of this run and name, or None."""
    name = aws.name(what)
    pages = aws.client("sagemaker").get_paginator("list_training_jobs").paginate(NameContains=name, StatusEquals="Completed")
    jobs = [job for page in pages for job in page["TrainingJobSummaries"]]
    for job in sorted(jobs, key=lambda job: job["CreationTime"], reverse=True):
        if re.match(re.escape(name) + r"-\d{4}-\d\d-\d\d-", job["TrainingJobName"]) and _of_this_run(aws, job["TrainingJobArn"]):
            return job["TrainingJobName"]
    return None


def model_data_of(aws: Aws, job_name: str) -> str:
    """The S3 URI of a completed job's ``model.tar.gz``.

    Raises
    ------
    NotFound
        There is no such job, or it left no model.
    """
    uri = _describe_job(aws, job_name).get("ModelArtifacts", {}).get("S3ModelArtifacts")
    if not uri:
        raise NotFound(f"training job {job_name} left no model: look at opml.estimators.job_log(aws, {job_name!r})")
    return uri


def _describe_job(aws: Aws, job_name: str) -> dict:
    try:
        return aws.client("sagemaker").describe_training_job(TrainingJobName=job_name)
    except ClientError as error:
        if "not" not in error.response["Error"]["Message"].lower():
            raise
        raise NotFound(f"training job {job_name!r} does not exist in {aws.region}") from error


def _endpoint_status(aws: Aws, endpoint_name: str) -> dict | None:
    try:
        return aws.client("sagemaker").describe_endpoint(EndpointName=endpoint_name)
    except ClientError as error:
        if "Could not find" not in error.response["Error"]["Message"]:
            raise
        return None


def find_endpoint(aws: Aws, what: str = "endpoint") -> str | None:
    """The name of this run's endpoint if it is in service, else None."""
    found = _endpoint_status(aws, aws.name(what))
    if found and found["EndpointStatus"] == "InService" and _of_this_run(aws, found["EndpointArn"]):
        return found["EndpointName"]
    return None


def wait_for_job(aws: Aws, job_name: str, seconds: int = 3600) -> dict:
    """Wait until a training job has ended, and describe it.

    Raises
    ------
    OpmlError
        It failed, was stopped, or has not ended in time.
    """
    waiter = aws.client("sagemaker").get_waiter("training_job_completed_or_stopped")
    try:
        waiter.wait(TrainingJobName=job_name, WaiterConfig={"Delay": 2, "MaxAttempts": max(1, seconds // 2)})
    except WaiterError as error:
        reason = _describe_job(aws, job_name).get("FailureReason", str(error))
        raise OpmlError(f"training job {job_name} did not complete: {reason}") from error
    return _describe_job(aws, job_name)


def job_log(aws: Aws, job_name: str) -> list[str]:
    """The lines a training job printed, one instance after the other (CloudWatch Logs keeps them after the job has gone)."""
    logs, lines = aws.client("logs"), []
    with contextlib.suppress(logs.exceptions.ResourceNotFoundException):  # no job has printed anything yet
        streams = logs.get_paginator("describe_log_streams").paginate(logGroupName=LOG_GROUP, logStreamNamePrefix=f"{job_name}/")
        for stream in [stream["logStreamName"] for page in streams for stream in page["logStreams"]]:
            lines += _stream_lines(logs, stream)
    return lines


def _stream_lines(logs, stream: str) -> list[str]:
    lines, token = [], {}
    while True:
        page = logs.get_log_events(logGroupName=LOG_GROUP, logStreamName=stream, startFromHead=True, **token)
        lines += [event["message"] for event in page["events"]]
        if not page["events"] or page["nextForwardToken"] == token.get("nextToken"):
            return lines
        token = {"nextToken": page["nextForwardToken"]}


def metric_history(aws: Aws, job_name: str) -> pd.DataFrame:
    """Every metric value a job printed, in order: columns metric, value, epoch. Test values stand at the epoch that was kept.

    CloudWatch keeps one average a minute, too coarse for short jobs, so the log is read with the same expressions.
    """
    rows = read_history("\n".join(job_log(aws, job_name)))
    return pd.DataFrame(rows, columns=["metric", "value", "epoch"])


# --- make what is missing ---------------------------------------------------------------------------------------------


def ensure_endpoint(aws: Aws, config: TrainConfig, what: str = "endpoint", **sample) -> str:
    """The name of this run's endpoint: found, else data is uploaded, one job trained and its model deployed.

    Parameters
    ----------
    config : TrainConfig
        Settings of the training job, if one must run.
    **sample
        Arguments of the sample generator, if data must be drawn.

    Raises
    ------
    OpmlError
        An endpoint of that name exists and has failed.
    """
    if name := find_endpoint(aws, what):
        print(f"endpoint {name} of run {aws.run_id} is in service: using it", flush=True)
        return name
    if found := _endpoint_status(aws, aws.name(what)):
        raise OpmlError(
            f"endpoint {aws.name(what)} is {found['EndpointStatus']}: {found.get('FailureReason', 'no reason given')}. "
            f"Remove it with: python -m opml teardown --run-id {aws.run_id}"
        )
    job_name = find_training_job(aws) or _train(aws, config, **sample)
    print(f"deploying the model of {job_name} as {aws.name(what)}", flush=True)
    model = pytorch_model(aws, model_data_of(aws, job_name))
    model.deploy(initial_instance_count=1, instance_type="ml.m5.large", endpoint_name=aws.name(what))
    return aws.name(what)


def _train(aws: Aws, config: TrainConfig, **sample) -> str:
    channel = ensure_data(aws, **sample)
    print(f"no trained model of run {aws.run_id} yet: training one", flush=True)
    estimator = pytorch_estimator(aws, config)
    estimator.fit({CHANNEL: channel}, logs=None)
    return estimator.latest_training_job.name
