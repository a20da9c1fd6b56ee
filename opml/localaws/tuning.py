"""Tuning jobs in their simplest form: random search whose trials are training jobs like any other."""

import math
import random
import secrets
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from moto.sagemaker.models import HyperParameterTuningJob

from opml.localaws import state
from opml.localaws.training import Job

TUNERS: dict[str, "Tuner"] = {}
OBJECTIVE = "_tuning_objective_metric"  # the hyper-parameter by which a trial knows what is tuned
COUNTED_AS = {
    "Completed": "Completed", "InProgress": "InProgress", "Stopping": "InProgress", "Failed": "NonRetryableError", "Stopped": "Stopped"
}  # fmt: skip
FROM_DEFINITION = (
    "AlgorithmSpecification", "RoleArn", "InputDataConfig", "OutputDataConfig", "ResourceConfig", "StoppingCondition", "VpcConfig",
    "CheckpointConfig", "Environment", "EnableNetworkIsolation", "EnableManagedSpotTraining", "EnableInterContainerTrafficEncryption",
)  # fmt: skip
WIDE = 100.0  # a positive range over more than two orders of magnitude is sampled by its logarithm if the scaling is Auto


def sample(ranges: dict, rng: random.Random) -> dict[str, str]:
    """One random point of ``ParameterRanges``, as the texts that the API carries."""
    point = {entry["Name"]: rng.choice(entry["Values"]) for entry in ranges.get("CategoricalParameterRanges") or []}
    for entry in ranges.get("ContinuousParameterRanges") or []:
        point[entry["Name"]] = repr(_between(entry, rng))
    for entry in ranges.get("IntegerParameterRanges") or []:
        point[entry["Name"]] = str(round(_between(entry, rng)))
    return point


def _between(entry: dict, rng: random.Random) -> float:
    low, high = float(entry["MinValue"]), float(entry["MaxValue"])
    scaling = entry.get("ScalingType", "Auto")
    if scaling == "Auto":
        scaling = "Logarithmic" if low > 0 and high / low > WIDE else "Linear"
    if scaling == "Logarithmic":
        value = math.exp(rng.uniform(math.log(low), math.log(high)))
    elif scaling == "ReverseLogarithmic":  # dense towards 1, for values such as 0.9 ... 0.999
        value = 1 - math.exp(rng.uniform(math.log(1 - high), math.log(1 - low)))
    else:
        value = rng.uniform(low, high)
    return min(max(value, low), high)  # rounding must not leave the range


@dataclass
class Trial:
    """One training job of a tuning job."""

    job: Job
    point: dict[str, str]
    objective: dict  # Type and MetricName
    definition_name: str | None

    @property
    def value(self) -> float | None:
        """The objective's final value, or None."""
        return self.job.final_metric(self.objective["MetricName"])

    def objective_status(self) -> str:
        """Pending, Succeeded or Failed."""
        if not self.job.done.is_set():
            return "Pending"
        return "Failed" if self.value is None else "Succeeded"

    def summary(self) -> dict:
        """The element of ListTrainingJobsForHyperParameterTuningJob."""
        fake = self.job.fake
        entry = {
            "TrainingJobDefinitionName": self.definition_name, "TrainingJobName": fake.training_job_name, "TrainingJobArn": fake.arn,
            "CreationTime": fake.creation_time, "TrainingStartTime": fake.training_start_time, "TrainingEndTime": fake.training_end_time,
            "TrainingJobStatus": fake.training_job_status, "TunedHyperParameters": self.point,
            "FailureReason": getattr(fake, "failure_reason", None), "ObjectiveStatus": self.objective_status(),
        }  # fmt: skip
        if self.value is not None:
            entry["FinalHyperParameterTuningJobObjectiveMetric"] = {**self.objective, "Value": self.value}
        return {name: value for name, value in entry.items() if value is not None}


class Tuner:
    """Runs one tuning job; ``fake`` is what the API shows of it, ``create`` makes a training job of a request."""

    def __init__(self, fake: HyperParameterTuningJob, create: Callable[[dict], Job]):
        self.fake, self._create = fake, create
        self.trials: list[Trial] = []
        self.stopping, self.done = threading.Event(), threading.Event()
        config = fake.hyper_parameter_tuning_job_config
        self.limit = config["ResourceLimits"].get("MaxNumberOfTrainingJobs", 1)
        self.parallel = config["ResourceLimits"]["MaxParallelTrainingJobs"]
        self._rng = random.Random(config.get("RandomSeed", 0))  # unlike AWS repeatable also without a seed
        self._definitions = definitions(fake)
        _show_as_started(fake)
        self._count()
        TUNERS[fake.hyper_parameter_tuning_job_name] = self
        threading.Thread(target=self._run, daemon=True, name=f"tuner {fake.hyper_parameter_tuning_job_name}").start()

    def stop(self) -> None:
        """Start no further trial and stop those that run."""
        self.fake.hyper_parameter_tuning_job_status = "Stopping"
        self.stopping.set()

    def _run(self) -> None:
        try:
            self._search()
            best = self.fake.best_training_job is not None
            reason = None if best else "All training jobs failed, or none of them printed the objective metric."
            self._finish("Stopped" if self.stopping.is_set() else "Completed" if best else "Failed", reason)
        except Exception as error:  # the thread's last stand: the client polls until a final status
            traceback.print_exc()
            self._finish("Failed", f"InternalServerError: {type(error).__name__}: {error}")

    def _search(self) -> None:
        while running := self._refill():
            running[0].job.done.wait(0.1)
            if self.stopping.is_set():
                for trial in running:
                    trial.job.stop()
            self._count()
            self._rank()
        self._count()
        self._rank()

    def _refill(self) -> list[Trial]:
        """Start trials until the limit of parallel ones is reached; the trials that run."""
        while True:
            running = [trial for trial in self.trials if not trial.job.done.is_set()]
            if self.stopping.is_set() or len(self.trials) >= self.limit or len(running) >= self.parallel:
                return running
            self.trials.append(self._start_trial())

    def _start_trial(self) -> Trial:
        number = len(self.trials)
        definition, objective, ranges = self._definitions[number % len(self._definitions)]
        point = sample(ranges, self._rng)
        request = {name: definition[name] for name in FROM_DEFINITION if name in definition}
        request |= {
            "TrainingJobName": f"{self.fake.hyper_parameter_tuning_job_name}-{number + 1:03d}-{secrets.token_hex(4)}",
            "HyperParameters": {**definition["StaticHyperParameters"], **point}, "Tags": list(self.fake.tags or []),
        }  # fmt: skip
        job = self._create(request)
        job.fake.tuning_job_arn = self.fake.arn
        return Trial(job, point, objective, definition.get("DefinitionName"))

    def _count(self) -> None:
        trainings = dict.fromkeys(("Completed", "InProgress", "RetryableError", "NonRetryableError", "Stopped"), 0)
        objectives = dict.fromkeys(("Succeeded", "Pending", "Failed"), 0)
        for trial in self.trials:
            trainings[COUNTED_AS[trial.job.fake.training_job_status]] += 1
            objectives[trial.objective_status()] += 1
        self.fake.training_job_status_counters, self.fake.objective_status_counters = trainings, objectives

    def _rank(self) -> None:
        ranked = [
            trial for trial in self.trials
            if trial.job.fake.training_job_status == "Completed" and trial.value is not None and not math.isnan(trial.value)
        ]  # fmt: skip
        if ranked:
            best = max if ranked[0].objective["Type"] == "Maximize" else min
            self.fake.best_training_job = best(ranked, key=lambda trial: trial.value).summary()

    def _finish(self, status: str, reason: str | None) -> None:
        fake, now = self.fake, state.now()
        fake.failure_reason = reason if status == "Failed" else None
        fake.hyper_parameter_tuning_end_time = fake.last_modified_time = now
        seconds = sum(getattr(trial.job.fake, "training_time_in_seconds", 0) or 0 for trial in self.trials)
        fake.consumed_resources = {"RuntimeInSeconds": seconds}
        fake.hyper_parameter_tuning_job_status = status
        self.done.set()


def definitions(fake: HyperParameterTuningJob) -> list[tuple[dict, dict, dict]]:
    """(training job definition, objective, parameter ranges) of each definition, completed as Describe shows them."""
    config = fake.hyper_parameter_tuning_job_config
    if fake.training_job_definition:
        found = [(fake.training_job_definition, config["HyperParameterTuningJobObjective"], config.get("ParameterRanges") or {})]
    else:
        found = [(entry, entry["TuningObjective"], entry["HyperParameterRanges"]) for entry in fake.training_job_definitions or []]
    for definition, objective, _ in found:
        _complete(definition, objective)
    return found


def _complete(definition: dict, objective: dict) -> None:
    """What AWS adds to a definition, and ``HyperparameterTuner.attach`` reads."""
    definition["StaticHyperParameters"] = {**(definition.get("StaticHyperParameters") or {}), OBJECTIVE: objective["MetricName"]}
    definition["OutputDataConfig"] = {"KmsKeyId": "", **definition["OutputDataConfig"]}
    if "ResourceConfig" not in definition:  # the SDK sends the newer HyperParameterTuningResourceConfig and reads the older one
        resources = definition["HyperParameterTuningResourceConfig"]
        resources = {**resources, **(resources.get("InstanceConfigs") or [{}])[0]}
        wanted = ("InstanceType", "InstanceCount", "VolumeSizeInGB", "VolumeKmsKeyId")
        definition["ResourceConfig"] = {name: resources[name] for name in wanted if name in resources}


def _show_as_started(fake: HyperParameterTuningJob) -> None:
    """Undo moto's instant success and its made-up best job."""
    fake.hyper_parameter_tuning_job_status = "InProgress"
    fake.best_training_job = fake.OverallBestTrainingJob = fake.failure_reason = None
    fake.hyper_parameter_tuning_end_time = fake.tuning_job_completion_details = fake.consumed_resources = None
    fake.tags = fake.tags or []
