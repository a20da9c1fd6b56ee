"""Tuning jobs: a search whose trials are training jobs like any other.

With a RandomSeed, the points are the same each time, whatever finishes first: with P trials in parallel, the point of trial n is chosen
when trials up to n - P have ended, and from their results alone. What is stopped early depends on the moment, as on AWS.
"""

import math
import secrets
import threading
import time
import traceback
from collections.abc import Callable

from moto.sagemaker.models import HyperParameterTuningJob

from opml.localaws import search, state, trials
from opml.localaws.training import Job
from opml.localaws.trials import Trial

TUNERS: dict[str, "Tuner"] = {}
OBJECTIVE = "_tuning_objective_metric"  # the hyper-parameter by which a trial knows what is tuned
FROM_DEFINITION = (
    "AlgorithmSpecification", "RoleArn", "InputDataConfig", "OutputDataConfig", "ResourceConfig", "StoppingCondition", "VpcConfig",
    "CheckpointConfig", "Environment", "EnableNetworkIsolation", "EnableManagedSpotTraining", "EnableInterContainerTrafficEncryption",
)  # fmt: skip
PARENTS = "ParentHyperParameterTuningJobs"


class Tuner:
    """Runs one tuning job; ``fake`` is what the API shows of it, ``create`` makes a training job of a request."""

    def __init__(self, fake: HyperParameterTuningJob, create: Callable[[dict], Job]):
        self.fake, self._create = fake, create
        self.trials: list[Trial] = []
        self.stopping, self.done = threading.Event(), threading.Event()
        self._config = config = fake.hyper_parameter_tuning_job_config
        self.parallel = config["ResourceLimits"]["MaxParallelTrainingJobs"]
        self.limit = config["ResourceLimits"].get("MaxNumberOfTrainingJobs", math.inf)
        self.deadline = time.monotonic() + config["ResourceLimits"].get("MaxRuntimeInSeconds", math.inf)
        self._definitions, self._complete, self._exhausted = definitions(fake), False, False
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
            self._searches = [self._search_of(objective, ranges) for _, objective, ranges in self._definitions]
            self._warm_start()
            self._search()
            best = self.fake.best_training_job is not None
            reason = None if best else trials.why_none(self.trials)
            self._finish("Stopped" if self.stopping.is_set() else "Completed" if best else "Failed", reason)
        except Exception as error:  # the thread's last stand: the client polls until a final status
            traceback.print_exc()
            self._end_trials()
            self._finish("Failed", f"InternalServerError: {type(error).__name__}: {error}")

    def _search_of(self, objective: dict, ranges: dict) -> search.Search:
        hyperband = (self._config.get("StrategyConfig") or {}).get("HyperbandStrategyConfig")
        seed = self._config.get("RandomSeed", 0)  # unlike AWS repeatable also without a seed
        return search.make(self._config["Strategy"], ranges, seed, maximize=objective["Type"] == "Maximize", hyperband=hyperband)

    def _warm_start(self) -> None:
        """Results of parent tuning jobs are where the search begins."""
        for trial in self._parents_trials():
            for one in self._searches:
                if trial.is_ranked() and isinstance(one, search.OptunaSearch):
                    one.seed_with(trial.point, trial.value)

    def _parents_trials(self) -> list[Trial]:
        names = [parent["HyperParameterTuningJobName"] for parent in (self.fake.warm_start_config or {}).get(PARENTS) or []]
        return [trial for name in names for trial in TUNERS[name].trials]

    def _search(self) -> None:
        while running := self._refill():
            running[0].job.done.wait(0.1)
            if time.monotonic() > self.deadline:
                self.stop()
            if self.stopping.is_set() or self._complete:
                self._stop_all(running)
            self._stop_hopeless(running)
            self._account()
        self._account()

    def _account(self) -> None:
        self._count()
        self._rank()
        self._check_completion()

    def _stop_all(self, running: list[Trial]) -> None:
        for trial in running:
            trial.job.stop()

    def _end_trials(self) -> None:
        self._stop_all(self.trials)
        for trial in self.trials:
            trial.job.done.wait()

    def _stop_hopeless(self, running: list[Trial]) -> None:
        early = self._config.get("TrainingJobEarlyStoppingType") == "Auto"
        for trial in running:
            values = trial.history
            others = [other.history for other in self.trials if other.family == trial.family and other.job.done.is_set()]
            if (early and search.is_below_median(values, others, trial.maximize)) or (
                not trial.told and self._searches[trial.family].is_hopeless(trial.number, values)
            ):
                trial.job.stop()

    def _check_completion(self) -> None:
        """``TuningJobCompletionCriteria``: good enough, or no better for long."""
        criteria, best = self._config.get("TuningJobCompletionCriteria") or {}, self.fake.best_training_job
        if best is None:
            return
        metric = best["FinalHyperParameterTuningJobObjectiveMetric"]
        target, sign = criteria.get("TargetObjectiveMetricValue"), 1 if metric["Type"] == "Maximize" else -1
        patience = (criteria.get("BestObjectiveNotImproving") or {}).get("MaxNumberOfTrainingJobsNotImproving", math.inf)
        ranked = [trial.job.fake.training_job_name for trial in self.trials if trial.is_ranked()]
        since = len(ranked) - 1 - ranked.index(best["TrainingJobName"])
        self.fake.tuning_job_completion_details = {"NumberOfTrainingJobsObjectiveNotImproving": since}
        self._complete = since >= patience or (target is not None and sign * metric["Value"] >= sign * target)

    def _refill(self) -> list[Trial]:
        """Start trials until the limit of parallel ones is reached; the trials that run."""
        while True:
            running = [trial for trial in self.trials if not trial.job.done.is_set()]
            ended = self.stopping.is_set() or self._complete or self._exhausted
            if ended or len(self.trials) >= self.limit or len(running) >= self.parallel:
                return running
            if not self._tell():
                return running
            try:
                self.trials.append(self._start_trial())
            except StopIteration:  # a grid has no further point
                self._exhausted = True

    def _tell(self) -> bool:
        """Hand results to the searches; False if the next point must wait for a result that the seed makes part of it."""
        known = self.trials
        if "RandomSeed" in self._config:
            known = self.trials[: max(0, len(self.trials) - self.parallel + 1)]
            if not all(trial.job.done.is_set() for trial in known):
                return False
        for trial in known:
            if trial.job.done.is_set() and not trial.told:
                self._searches[trial.family].tell(trial.number, trial.value)
                trial.told = True
        return True

    def _start_trial(self) -> Trial:
        number = len(self.trials)
        family = number % len(self._definitions)
        definition, objective, _ = self._definitions[family]
        point = self._searches[family].ask()
        request = {name: definition[name] for name in FROM_DEFINITION if name in definition}
        request |= {
            "TrainingJobName": f"{self.fake.hyper_parameter_tuning_job_name}-{number + 1:03d}-{secrets.token_hex(4)}",
            "HyperParameters": {**definition["StaticHyperParameters"], **point}, "Tags": list(self.fake.tags or []),
        }  # fmt: skip
        job = self._create(request)
        job.fake.tuning_job_arn = self.fake.arn
        return Trial(job, point, objective, definition.get("DefinitionName"), family, number // len(self._definitions))

    def _count(self) -> None:
        self.fake.training_job_status_counters, self.fake.objective_status_counters = trials.counters(self.trials)

    def _rank(self) -> None:
        """The best job of this tuning job, and with warm start that of it and its parents."""
        best = trials.best(self.trials)
        self.fake.best_training_job = best.summary() if best else None
        if self.fake.warm_start_config:
            overall = trials.best([*self.trials, *self._parents_trials()])
            self.fake.OverallBestTrainingJob = overall.summary() if overall else None

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
