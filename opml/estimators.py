"""Training, tuning and hosting through the SageMaker SDK: the cargo is staged here, the estimators are built here.

Builders return SDK objects; the notebook calls ``fit`` and ``deploy``. ``ensure_*`` are for notebooks that stand alone: they find
what an earlier notebook of the same run made, else make it and say so.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from opml.core.config import TrainConfig
from opml.core.metrics import METRICS, VALID_LOSS
from opml.costs import PRICES
from opml.errors import BadInput, NotFound, OpmlError
from opml.images import accelerator_of, image_for, image_uri
from opml.jobs import endpoint_status, find_endpoint, find_training_job, fit_together, job_log, metric_history, model_data_of, wait_for_job
from opml.staging import ensure_data, stage_source, upload, upload_sample

if TYPE_CHECKING:
    from sagemaker.predictor import Predictor
    from sagemaker.pytorch import PyTorch, PyTorchModel
    from sagemaker.tuner import HyperparameterTuner

    from opml.aws import Aws

# Notebooks know this one room; how cargo and data travel, and how jobs are read back, is next door.
__all__ = [
    "CHANNEL",
    "ensure_data",
    "ensure_endpoint",
    "find_endpoint",
    "find_training_job",
    "fit_together",
    "hyperparameter_tuner",
    "image_uri",
    "job_log",
    "metric_history",
    "model_data_of",
    "predictor",
    "pytorch_estimator",
    "pytorch_model",
    "search_space",
    "stage_source",
    "upload",
    "upload_sample",
    "wait_for_job",
]

CHANNEL = "training"


# --- estimators -------------------------------------------------------------------------------------------------------


def pytorch_estimator(
    aws: Aws, config: TrainConfig, what: str = "train", *, instance_type: str = "ml.m5.large", instance_count: int = 1,
    checkpoints: bool | str = False, spot: bool = False, **options,
) -> PyTorch:  # fmt: skip
    """An estimator of ``hpo.py``; call ``fit({"training": uri})`` on it.

    The script joins its processes itself (gloo on CPU, nccl on GPU), so more than one instance needs no ``distribution``.

    Parameters
    ----------
    what : str
        Part of the job's name: ``opml-<run_id>-<what>-<time>``.
    checkpoints : bool or str
        Keep checkpoints in S3 while the job runs, under a prefix of this estimator's own; or under this S3 URI, say that of a job that
        was stopped (``estimator.checkpoint_s3_uri``), from whose checkpoint the new one goes on.
    spot : bool
        Managed spot training, with checkpoints: an interrupted job goes on where it was. It may wait as long again as it may run.
    **options
        Anything the SDK's ``PyTorch`` takes. With ``rules`` the Debugger is on; with profiler rules or a ``profiler_config``
        the profiler too; otherwise both are off. And ``requirements``: lines of a requirements.txt that the container installs
        (what ``opml.rules.watching`` returns may have them).
    """
    from sagemaker.pytorch import PyTorch

    options.setdefault("max_run", 3600)  # a job that hangs is ended, and billed, after an hour
    options = _interruptions(aws, what, checkpoints or spot, spot, options["max_run"]) | _quiet(options) | options
    options.setdefault("image_uri", image_uri(aws, "training", accelerator_of(instance_type)))
    return PyTorch(
        entry_point="hpo.py",
        source_dir=str(stage_source("hpo.py", requirements=options.pop("requirements", ()))),
        hyperparameters=_priced(config, instance_type).hyperparameters(),
        metric_definitions=[metric.definition() for metric in METRICS],
        role=aws.role_arn,
        sagemaker_session=aws.sagemaker_session,
        instance_type=instance_type,
        instance_count=instance_count,
        base_job_name=aws.name(what),
        output_path=aws.uri("jobs"),
        code_location=aws.uri("code"),
        tags=aws.tags,
        **options,
    )


def _interruptions(aws: Aws, what: str, checkpoints: bool | str, spot: bool, max_run: int) -> dict:
    """The SDK's options; the local path of the checkpoints is SageMaker's default, where the script looks for it."""
    own = aws.uri("checkpoints", f"{what}-{secrets.token_hex(4)}")  # two jobs must never share one
    kept = {"checkpoint_s3_uri": own if checkpoints is True else checkpoints} if checkpoints else {}
    return kept | ({"use_spot_instances": True, "max_wait": 2 * max_run} if spot else {})


def _priced(config: TrainConfig, instance_type: str) -> TrainConfig:
    """The settings with what an hour costs, so that the job's log can say what it has cost; unchanged if the table has no price."""
    known = instance_type in PRICES and not config.price_per_hour
    return config.replace(price_per_hour=PRICES[instance_type].usd_hour) if known else config


def _quiet(options: dict) -> dict:
    """Debugger and profiler are off unless something asks for them."""
    return {"debugger_hook_config": None if options.get("rules") else False, "disable_profiler": not _asks_for_profiler(options)}


def _asks_for_profiler(options: dict) -> bool:
    return "profiler_config" in options or any(type(rule).__name__ == "ProfilerRule" for rule in options.get("rules") or ())


def search_space() -> dict:
    """The ranges that tuning draws from: a learning rate on a log scale, and the global batch size."""
    from sagemaker.tuner import CategoricalParameter, ContinuousParameter

    return {
        "learning_rate": ContinuousParameter(3e-4, 3e-3, scaling_type="Logarithmic"),
        "batch_size": CategoricalParameter([16, 32]),
    }


def hyperparameter_tuner(
    aws: Aws, estimator: PyTorch, ranges: dict, *, max_jobs: int = 3, max_parallel_jobs: int = 2, random_seed: int = 0
) -> HyperparameterTuner:
    """A tuner that minimises the validation loss by random search; call ``fit({"training": uri})`` on it.

    Random trials do not learn from each other, so two run at a time.

    The objective is validation, never test: a test set that chose the model measures nothing any more.

    Raises
    ------
    BadInput
        The estimator keeps checkpoints: the jobs of a tuner would share them, and each refuse the others'.
    """
    from sagemaker.tuner import HyperparameterTuner

    if getattr(estimator, "checkpoint_s3_uri", None):
        raise BadInput(
            f"the jobs of a tuner would share the checkpoints in {estimator.checkpoint_s3_uri}: tune an estimator made without checkpoints"
        )

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

    image = image_for("inference")
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
    if endpoint_status(aws, endpoint_name) is None:
        raise NotFound(f"endpoint {endpoint_name!r} does not exist in {aws.region}: deploy one, or list them with opml.resources.inventory")
    return _predictor(endpoint_name, aws.sagemaker_session)


def _predictor(endpoint_name: str, session) -> Predictor:
    from sagemaker.deserializers import JSONDeserializer
    from sagemaker.predictor import Predictor
    from sagemaker.serializers import IdentitySerializer

    return Predictor(endpoint_name, session, serializer=IdentitySerializer("image/jpeg"), deserializer=JSONDeserializer())


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
    if found := endpoint_status(aws, aws.name(what)):
        raise OpmlError(
            f"endpoint {aws.name(what)} is {found['EndpointStatus']}: {found.get('FailureReason', 'no reason given')}. "
            "Wait until it is in service, or remove it: opml.resources.teardown(aws)"
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
