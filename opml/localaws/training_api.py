"""SageMaker's operations on training and tuning jobs: read the request, check it as AWS does, call the jobs, answer."""

import json
from collections.abc import Callable

from moto.core.responses import ActionResult, EmptyResult
from moto.iam.models import iam_backends
from moto.sagemaker.exceptions import ResourceInUseException, ValidationError
from moto.sagemaker.models import FakeTrainingJob, HyperParameterTuningJob, sagemaker_backends

from opml.localaws import checkpoints, debugger_files, search, spot, training, tuning
from opml.localaws.settings import settings

SERVICE = "sagemaker.amazonaws.com"
PAGE = 10  # entries of a list if MaxResults is not given
# Arguments of moto's create_training_job, all mandatory: its name -> member of the request, and what stands for a missing one.
MEMBERS = {
    "training_job_name": "TrainingJobName", "hyper_parameters": "HyperParameters", "algorithm_specification": "AlgorithmSpecification",
    "role_arn": "RoleArn", "input_data_config": "InputDataConfig", "output_data_config": "OutputDataConfig",
    "resource_config": "ResourceConfig", "vpc_config": "VpcConfig", "stopping_condition": "StoppingCondition", "tags": "Tags",
    "checkpoint_config": "CheckpointConfig", "debug_hook_config": "DebugHookConfig",
    "debug_rule_configurations": "DebugRuleConfigurations", "tensor_board_output_config": "TensorBoardOutputConfig",
    "experiment_config": "ExperimentConfig",
}  # fmt: skip
SWITCHES = {
    "enable_network_isolation": "EnableNetworkIsolation", "enable_managed_spot_training": "EnableManagedSpotTraining",
    "enable_inter_container_traffic_encryption": "EnableInterContainerTrafficEncryption",
}  # fmt: skip


def create_training_job(request: dict) -> training.Job:
    """Store a training job and start it; ``request`` is the API's, with JSON types."""
    _check_training_request(request)
    backend = sagemaker_backends[settings.account][settings.region]
    request = json.loads(json.dumps(request))  # moto writes into what it is given
    arguments = {name: json.loads(json.dumps(request.get(member))) for name, member in MEMBERS.items()}
    arguments |= {name: request.get(member, False) for name, member in SWITCHES.items()}
    return training.Job(backend.create_training_job(**arguments), request)


def _check_training_request(request: dict) -> None:
    name = request["TrainingJobName"]
    if name in sagemaker_backends[settings.account][settings.region].training_jobs:
        arn = FakeTrainingJob.arn_formatter(name, settings.account, settings.region)
        raise ResourceInUseException(
            f"Training job names must be unique within an AWS account and region, and a training job with this name already exists ({arn})"
        )
    check_role(request["RoleArn"])
    for channel in request.get("InputDataConfig") or []:
        _check_channel(channel)
    wrong = spot.fault(request) or checkpoints.fault(request.get("CheckpointConfig") or {}) or debugger_files.fault(request)
    if wrong is not None:
        raise ValidationError(wrong)


def _check_channel(channel: dict) -> None:
    """What the local AWS cannot feed to a job is refused at once, not silently left out."""
    source = channel["DataSource"].get("S3DataSource")
    mode = channel.get("InputMode", "File")
    if source is None or source.get("S3DataType") != "S3Prefix" or mode not in ("File", "FastFile"):
        wanted = "an S3DataSource of type S3Prefix and input mode File or FastFile"
        raise ValidationError(f"The local AWS feeds channels from {wanted} only; channel {channel['ChannelName']} asks for something else.")


def check_role(role_arn: str) -> None:
    """Raise ValidationException unless the role exists and trusts SageMaker."""
    role = next((role for role in iam_backends[settings.account]["aws"].roles.values() if role.arn == role_arn), None)
    if role is None or SERVICE not in str(role.assume_role_policy_document):
        raise ValidationError(
            f"Could not assume role {role_arn}. Please ensure that the role exists and allows principal '{SERVICE}' to assume the role."
        )


class TrainingMixin:
    """Goes before moto's ``SageMakerResponse``: what is here runs, the rest is moto's."""

    def create_training_job(self) -> ActionResult:
        """Start a training job."""
        return ActionResult({"TrainingJobArn": create_training_job(json.loads(self.body)).fake.arn})

    def describe_training_job(self) -> ActionResult:
        """Describe a training job, never between two statuses."""
        return ActionResult(_known(training.JOBS, self._get_param("TrainingJobName")).describe())

    def stop_training_job(self) -> EmptyResult:
        """Ask a training job to end."""
        job = _known(training.JOBS, self._get_param("TrainingJobName"))
        if job.fake.training_job_status != "InProgress":
            raise ValidationError(f"The request was rejected because the training job is in status {job.fake.training_job_status}.")
        job.stop()
        return EmptyResult()

    def update_training_job(self) -> ActionResult:
        """Change the profiler of a job that trains, or give it more profiler rules."""
        request, job = json.loads(self.body), _known(training.JOBS, self._get_param("TrainingJobName"))
        if job.fake.secondary_status != "Training" or not job.debugger.is_open():
            raise _not_training(job)
        if others := set(request) - {"TrainingJobName", "ProfilerConfig", "ProfilerRuleConfigurations"}:
            raise ValidationError(f"The local AWS changes the profiler and its rules only, not {', '.join(sorted(others))}.")
        if (wrong := debugger_files.fault(request)) is not None:
            raise ValidationError(wrong)
        if not job.debugger.update(request):
            raise _not_training(job)
        return ActionResult({"TrainingJobArn": job.fake.arn})

    def delete_training_job(self) -> EmptyResult:
        """Forget a training job that has ended."""
        name = self._get_param("TrainingJobName")
        if not (job := _known(training.JOBS, name)).done.is_set():
            status = job.fake.training_job_status
            raise ValidationError(f"The request was rejected because the training job is in status {status}.")
        training.JOBS.pop(name, None)
        job.debugger.end()
        self.sagemaker_backend.training_jobs.pop(name, None)
        return EmptyResult()

    def list_training_jobs(self) -> ActionResult:
        """List training jobs: filtered first, then sorted, then cut into pages."""
        jobs = list(self.sagemaker_backend.training_jobs.values())
        jobs = [job for job in jobs if self._wanted(job, job.training_job_name, job.training_job_status)]
        keys = {"Name": lambda job: job.training_job_name, "Status": lambda job: job.training_job_status}
        jobs.sort(key=keys.get(self._get_param("SortBy"), lambda job: job.creation_time), reverse=self._descending("Descending"))
        return self._page("TrainingJobSummaries", [_summary(job) for job in jobs])

    def create_hyper_parameter_tuning_job(self) -> ActionResult:
        """Start a tuning job."""
        request = json.loads(self.body)
        _check_tuning_request(request)
        result = super().create_hyper_parameter_tuning_job()
        fake = self.sagemaker_backend.hyper_parameter_tuning_jobs[request["HyperParameterTuningJobName"]]
        tuning.Tuner(fake, create_training_job)
        return result

    def stop_hyper_parameter_tuning_job(self) -> EmptyResult:
        """Stop a tuning job and its trials."""
        tuner = _known(tuning.TUNERS, self._get_param("HyperParameterTuningJobName"))
        if tuner.done.is_set():
            status = tuner.fake.hyper_parameter_tuning_job_status
            raise ValidationError(f"The request was rejected because the hyperparameter tuning job is in status {status}.")
        tuner.stop()
        return EmptyResult()

    def list_hyper_parameter_tuning_jobs(self) -> ActionResult:
        """List tuning jobs: filtered, sorted (by name unless asked otherwise), cut into pages."""
        jobs = list(self.sagemaker_backend.hyper_parameter_tuning_jobs.values())
        jobs = [job for job in jobs if self._wanted(job, job.hyper_parameter_tuning_job_name, job.hyper_parameter_tuning_job_status)]
        keys = {"CreationTime": lambda job: job.creation_time, "Status": lambda job: job.hyper_parameter_tuning_job_status}
        key = keys.get(self._get_param("SortBy"), lambda job: job.hyper_parameter_tuning_job_name)
        jobs.sort(key=key, reverse=self._descending("Ascending"))
        return self._page("HyperParameterTuningJobSummaries", [job.summary() for job in jobs])

    def list_training_jobs_for_hyper_parameter_tuning_job(self) -> ActionResult:
        """The trials of a tuning job; the newest comes first unless asked otherwise, as AWS does, though it documents ascending names."""
        tuner = _known(tuning.TUNERS, self._get_param("HyperParameterTuningJobName"))
        wanted = self._get_param("StatusEquals")
        entries = [entry for entry in (trial.summary() for trial in tuner.trials) if wanted in (None, entry["TrainingJobStatus"])]
        if self._get_param("SortBy") == "FinalObjectiveMetricValue":
            entries = [entry for entry in entries if "FinalHyperParameterTuningJobObjectiveMetric" in entry]
        asked = self._get_param("SortBy")
        entries.sort(key=_trial_order(asked), reverse=self._descending("Ascending" if asked else "Descending"))
        return self._page("TrainingJobSummaries", entries)

    def _wanted(self, job: FakeTrainingJob | HyperParameterTuningJob, name: str, status: str) -> bool:
        """Whether a job passes the request's filters."""
        get = self._get_param
        return (
            (get("NameContains") or "").lower() in name.lower()
            and get("StatusEquals") in (None, status)
            and _within(job.creation_time, get("CreationTimeAfter"), get("CreationTimeBefore"))
            and _within(job.last_modified_time, get("LastModifiedTimeAfter"), get("LastModifiedTimeBefore"))
        )

    def _descending(self, default: str) -> bool:
        return (self._get_param("SortOrder") or default) == "Descending"

    def _page(self, member: str, entries: list[dict]) -> ActionResult:
        token = self._get_param("NextToken") or "0"
        if not token.isdigit():
            raise ValidationError("Invalid pagination token.")
        end = int(token) + (self._get_param("MaxResults") or PAGE)
        return ActionResult({member: entries[int(token) : end], "NextToken": str(end) if end < len(entries) else None})


def _check_tuning_request(request: dict) -> None:
    name, config = request["HyperParameterTuningJobName"], request["HyperParameterTuningJobConfig"]
    if name in sagemaker_backends[settings.account][settings.region].hyper_parameter_tuning_jobs:
        raise ResourceInUseException(f"A hyperparameter tuning job with the name, {name}, already exists. Choose a different name.")
    one, several = request.get("TrainingJobDefinition"), request.get("TrainingJobDefinitions") or []
    if (one is None) == (not several):
        raise ValidationError("Specify either TrainingJobDefinition or TrainingJobDefinitions.")
    ranges = [entry.get("HyperParameterRanges") or {} for entry in several] or [config.get("ParameterRanges") or {}]
    if (wrong := search.fault(config["Strategy"], config, ranges)) is not None:
        raise ValidationError(wrong)
    for definition in several or [one]:
        check_role(definition["RoleArn"])
        _check_objective(definition, definition.get("TuningObjective") or config.get("HyperParameterTuningJobObjective"))
    for parent in (request.get("WarmStartConfig") or {}).get(tuning.PARENTS) or []:
        if (tuner := tuning.TUNERS.get(parent["HyperParameterTuningJobName"])) is None or not tuner.done.is_set():
            raise ValidationError(f"The parent tuning job {parent['HyperParameterTuningJobName']} does not exist or has not ended.")


def _check_objective(definition: dict, objective: dict | None) -> None:
    metrics = [metric["Name"] for metric in definition["AlgorithmSpecification"].get("MetricDefinitions") or []]
    if objective is None or objective["MetricName"] not in metrics:
        named = "missing" if objective is None else objective["MetricName"]
        raise ValidationError(
            f"The objective metric for the hyperparameter tuning job, [{named}], isn't valid. Choose a valid objective metric."
        )


def _known(table: dict, name: str):
    try:
        return table[name]
    except KeyError:
        raise ValidationError("Requested resource not found.") from None


def _not_training(job: training.Job) -> ValidationError:
    return ValidationError(f"The request was rejected because the training job is in status {job.fake.secondary_status}.")


def _summary(job: FakeTrainingJob) -> dict:
    return {
        "TrainingJobName": job.training_job_name, "TrainingJobArn": job.arn, "CreationTime": job.creation_time,
        "TrainingEndTime": job.training_end_time, "LastModifiedTime": job.last_modified_time,
        "TrainingJobStatus": job.training_job_status, "SecondaryStatus": job.secondary_status,
    }  # fmt: skip


def _trial_order(sort_by: str | None) -> Callable[[dict], object]:
    return {
        "FinalObjectiveMetricValue": lambda entry: entry["FinalHyperParameterTuningJobObjectiveMetric"]["Value"],
        "Status": lambda entry: entry["TrainingJobStatus"],
        "CreationTime": lambda entry: entry["CreationTime"],
    }.get(sort_by, lambda entry: entry["TrainingJobName"])


def _within(moment, after, before) -> bool:
    moment = moment.replace(tzinfo=None)
    return not (after and moment <= after.replace(tzinfo=None)) and not (before and moment >= before.replace(tzinfo=None))
