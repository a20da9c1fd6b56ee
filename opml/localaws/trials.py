"""The trials of a tuning job: what each has brought, which is the best, and how many are how far."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from opml.localaws.training import Job

COUNTED_AS = {
    "Completed": "Completed", "InProgress": "InProgress", "Stopping": "InProgress", "Failed": "NonRetryableError", "Stopped": "Stopped"
}  # fmt: skip


@dataclass
class Trial:
    """One training job of a tuning job."""

    job: Job
    point: dict[str, str]
    objective: dict  # Type and MetricName
    definition_name: str | None
    family: int  # which of the training job definitions it is of
    number: int  # in the order of its definition's points
    told: bool = False

    @property
    def history(self) -> list[float]:
        """The objective's values so far."""
        return self.job.metric_history(self.objective["MetricName"])

    @property
    def maximize(self) -> bool:
        """Whether more is better."""
        return self.objective["Type"] == "Maximize"

    @property
    def value(self) -> float | None:
        """The objective's final value, or None."""
        return self.job.final_metric(self.objective["MetricName"])

    def objective_status(self) -> str:
        """Pending, Succeeded or Failed."""
        if not self.job.done.is_set():
            return "Pending"
        return "Failed" if self.value is None else "Succeeded"

    def is_ranked(self) -> bool:
        """Whether the trial has ended with a result that can be compared; one that was stopped early has one too."""
        return self.job.fake.training_job_status in ("Completed", "Stopped") and self.value is not None and not math.isnan(self.value)

    def summary(self) -> dict:
        """The element of ListTrainingJobsForHyperParameterTuningJob; times in whole seconds, as AWS has them there."""
        fake = self.job.fake
        begun, ended = fake.training_start_time, fake.training_end_time
        times = {"CreationTime": fake.creation_time, "TrainingStartTime": begun, "TrainingEndTime": ended}
        entry = {
            "TrainingJobDefinitionName": self.definition_name, "TrainingJobName": fake.training_job_name, "TrainingJobArn": fake.arn,
            **{name: moment and moment.replace(microsecond=0) for name, moment in times.items()},
            "TrainingJobStatus": fake.training_job_status, "TunedHyperParameters": self.point,
            "FailureReason": getattr(fake, "failure_reason", None), "ObjectiveStatus": self.objective_status(),
        }  # fmt: skip
        if self.value is not None:
            entry["FinalHyperParameterTuningJobObjectiveMetric"] = {**self.objective, "Value": self.value}
        return {name: value for name, value in entry.items() if value is not None}


def best(trials: Sequence[Trial]) -> Trial | None:
    """The best of those that were completed, else of those that were stopped with a result."""
    ranked = [trial for trial in trials if trial.is_ranked()]
    ranked = [trial for trial in ranked if trial.job.fake.training_job_status == "Completed"] or ranked
    if not ranked:
        return None
    return (max if ranked[0].maximize else min)(ranked, key=lambda trial: trial.value)


def counters(trials: Sequence[Trial]) -> tuple[dict[str, int], dict[str, int]]:
    """TrainingJobStatusCounters and ObjectiveStatusCounters."""
    trainings = dict.fromkeys(("Completed", "InProgress", "RetryableError", "NonRetryableError", "Stopped"), 0)
    objectives = dict.fromkeys(("Succeeded", "Pending", "Failed"), 0)
    for trial in trials:
        trainings[COUNTED_AS[trial.job.fake.training_job_status]] += 1
        objectives[trial.objective_status()] += 1
    return trainings, objectives


def why_none(trials: Sequence[Trial]) -> str:
    """Why no trial is the best: AWS's text, and the reason of the first that failed, for which AWS lets its reader look."""
    found = [getattr(trial.job.fake, "failure_reason", None) for trial in trials]  # moto sets it on failure only
    reasons = [reason for reason in found if reason]
    text = "All training jobs failed. Please take a look at the training jobs failures to get more details."
    if len(reasons) < len(trials):
        text = (
            f"No objective metrics found after running {len(trials)} training jobs. Please ensure that the custom algorithm is emitting "
            "the objective metric as defined by the regular expression provided."
        )
    return f"{text} The first failed with: {reasons[0]}" if reasons else text
