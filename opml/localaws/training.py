"""Training jobs that run: one process an instance, with the files, the environment, the logs and the statuses of SageMaker.

moto's ``FakeTrainingJob`` stays the single source of what Describe and List show; a ``Job`` moves it along.
"""

import shutil
import threading
import time
import traceback
from datetime import datetime
from pathlib import Path

from moto.sagemaker.models import FakeTrainingJob

from opml.localaws import channels, checkpoints, contract, job_folders, procs, spot, state
from opml.localaws.channels import JobFault
from opml.localaws.debugger import Debugger
from opml.localaws.iam_acting import acting_as
from opml.localaws.slots import SLOTS
from opml.localaws.worker import LOG_GROUP, REASON_LENGTH, Worker, end_together

DAY = 24 * 3600.0
STOP_GRACE = 10.0  # seconds between SIGTERM and SIGKILL; AWS gives 120
FAIL_GRACE = 1.0  # the other instances of a job of which one has failed
TERMINAL = ("Completed", "Failed", "Stopped")

MESSAGES = {
    "Starting": "Preparing the instances for training",
    "Downloading": "Downloading input data",
    "Training": "Training image download completed. Training in progress.",
    "Stopping": "Stopping the training job",
    "Uploading": "Uploading generated training model",
    "Completed": "Training job completed",
    "Failed": "Training job failed",
    "Stopped": "Training job stopped",
    "Interrupted": "Training was interrupted: the spot capacity was taken back",
    "MaxWaitTimeExceeded": "Training job waiting time exceeded MaxWaitTimeInSeconds provided",
    "MaxRuntimeExceeded": "Training job runtime exceeded MaxRuntimeInSeconds provided",
}

JOBS: dict[str, "Job"] = {}


def is_busy() -> bool:
    """Whether any job is still at work."""
    return any(not job.done.is_set() for job in list(JOBS.values()))


class Job:
    """Runs one training job in threads and processes; ``fake`` is what the API shows of it."""

    def __init__(self, fake: FakeTrainingJob, request: dict):
        self.fake, self.request = fake, request
        self.lock = threading.RLock()  # status and secondary status change together
        self.stopping, self.done = threading.Event(), threading.Event()
        self.workers: list[Worker] = []
        self._history: dict[str, list[float]] = {}
        self.number, self._spot = int(time.time()), spot.Spot(request)  # the number is the end of the log streams' names
        _show_as_started(fake, request)
        self.debugger = Debugger(self)
        self._transition("Starting")
        JOBS[fake.training_job_name] = self
        threading.Thread(target=self._run, daemon=True, name=f"job {fake.training_job_name}").start()

    @property
    def name(self) -> str:
        return self.fake.training_job_name

    def describe(self) -> dict:
        """moto's description, taken between two transitions."""
        with self.lock:
            return self.fake.response_object

    def stop(self) -> None:
        """Ask the job to end; what it has written so far is still uploaded."""
        with self.lock:
            if self.fake.training_job_status == "InProgress":
                self.fake.training_job_status = "Stopping"
                self._transition("Stopping")
                self.stopping.set()

    def final_metric(self, name: str) -> float | None:
        """The last value of a metric, or None."""
        values = [entry["Value"] for entry in self.fake.final_metric_data_list if entry["MetricName"] == name]
        return values[-1] if values else None

    def metric_history(self, name: str) -> list[float]:
        """All values of a metric so far."""
        with self.lock:
            return list(self._history.get(name, []))

    def _transition(self, secondary: str) -> None:
        with self.lock:
            now, transitions = state.now(), self.fake.secondary_status_transitions
            if transitions:
                transitions[-1].setdefault("EndTime", now)
            transitions.append({"Status": secondary, "StartTime": now, "StatusMessage": MESSAGES[secondary]})
            self.fake.secondary_status, self.fake.last_modified_time = secondary, now

    def _finish(self, secondary: str, reason: str | None, ended: datetime) -> None:
        fake = self.fake
        with self.lock:
            if reason is not None:
                fake.failure_reason = reason[:REASON_LENGTH]
            fake.training_end_time = ended
            if fake.training_start_time is not None:
                seconds = (fake.training_end_time - fake.training_start_time).total_seconds()
                fake.training_time_in_seconds = max(1, round(seconds))
                fake.billable_time_in_seconds = self._spot.billable(fake.training_time_in_seconds)
            self._transition(secondary)
            fake.training_job_status = "Stopped" if secondary.endswith("Exceeded") else secondary
        self.done.set()

    def _run(self) -> None:
        secondary, reason, folder = "Failed", None, None
        try:
            count = instance_count(self.fake.resource_config)
            with SLOTS.take(count, self._is_given_up), acting_as(self.fake.role_arn):
                folder = job_folders.make(self.name)
                secondary, reason = self._execute(folder, count)
        except JobFault as fault:
            reason = str(fault)
        except Exception as error:  # the thread's last stand: a job must never be left InProgress
            traceback.print_exc()
            reason = f"InternalServerError: {type(error).__name__}: {error}"
        finally:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
            ended = state.now()
            self._end_debugger()
            self._finish(secondary, reason, ended)

    def _end_debugger(self) -> None:
        try:
            self.debugger.finish()
        except Exception:  # whatever it is, it is not the job's fault
            traceback.print_exc()

    def _is_given_up(self) -> bool:
        return self.stopping.is_set() or self._spot.has_waited_too_long()

    def _execute(self, folder: Path, count: int) -> tuple[str, str | None]:
        """Everything between Starting and the end: (last secondary status, failure reason)."""
        if self._is_given_up():
            return self._end_before_training()
        with self.lock:
            self.fake.training_start_time = state.now()
        while True:
            self._transition("Downloading")
            try:
                instances, kept = job_folders.prepare(self.fake, self.request, folder, count)
            except OSError as error:
                raise JobFault(f"ClientError: Data download failed:{error.strerror}") from None
            self._transition("Training")
            secondary, reason = self._train(instances, kept)
            if secondary != "Interrupted":
                break
            self._transition("Interrupted")
            shutil.rmtree(folder / "instances")  # the instances are gone, and all on them but the checkpoints
            if not self._has_capacity_again():
                return self._end_before_training()
            self._transition("Starting")
        self._save(folder, instances, secondary)
        return secondary, reason

    def _end_before_training(self) -> tuple[str, None]:
        if self.stopping.is_set():
            return "Stopped", None
        self._transition("Stopping")
        return "MaxWaitTimeExceeded", None

    def _has_capacity_again(self) -> bool:
        """Wait as long as the rehearsed shortage lasts; False if the job is given up meanwhile."""
        back = time.monotonic() + self._spot.absent
        while time.monotonic() < back and not self._is_given_up():
            self.stopping.wait(0.05)
        return not self._is_given_up()

    def _save(self, folder: Path, instances: list[contract.Instance], secondary: str) -> None:
        if not self.stopping.is_set():
            self._transition("Uploading")
        try:
            self._upload(folder, instances)
        except JobFault:
            if secondary != "Failed":  # else the script's own failure is what the reader must see
                raise

    def _train(self, instances: list[contract.Instance], kept: checkpoints.Checkpoints | None) -> tuple[str, str | None]:
        """Run the script: (secondary status that it ends in, failure reason)."""
        port, credentials = procs.free_port(), state.role_credentials(self.fake.role_arn, "SageMaker")
        began = time.monotonic()
        try:
            with self.debugger.watching(instances, credentials):
                secondary, failed = self._run_script(instances, port, credentials, began)
        except OSError as error:
            raise JobFault(f"InternalServerError: the instances could not be started: {error}") from None
        self._spot.trained += time.monotonic() - began
        if kept is not None:
            kept.close()
        return secondary, failed.failure_reason() if failed else None

    def _run_script(self, instances: list[contract.Instance], port: int, credentials: dict, began: float) -> tuple[str, "Worker | None"]:
        """Start the script on each instance, wait for it as `_watch` does, and end what is left of it."""
        self.workers, grace = [], FAIL_GRACE
        try:
            for instance in instances:
                self.workers.append(Worker(self, instance, port, credentials))
            secondary, failed = self._watch(began)
            grace = FAIL_GRACE if failed else STOP_GRACE
            return secondary, failed
        finally:
            end_together(self.workers, grace)

    def _watch(self, began: float) -> tuple[str, "Worker | None"]:
        """Wait until all instances are done, one has failed, or the job's time is over: (secondary status, the failed one)."""
        longest = (self.fake.stopping_condition or {}).get("MaxRuntimeInSeconds", DAY) - self._spot.trained
        interruption = self._spot.next_interruption()
        while True:
            statuses = [worker.process.poll() for worker in self.workers]
            failed = next((worker for worker, status in zip(self.workers, statuses, strict=True) if status not in (None, 0)), None)
            if self.stopping.is_set():
                return "Stopped", None
            if failed is not None or None not in statuses:
                return ("Failed" if failed else "Completed"), failed
            seconds = time.monotonic() - began
            if seconds > longest or self._spot.has_waited_too_long():
                return ("MaxRuntimeExceeded" if seconds > longest else "MaxWaitTimeExceeded"), None
            if seconds > interruption or self._spot.is_interrupted_by(list(self.workers[0].tail)):
                return "Interrupted", None
            self.stopping.wait(0.05)

    def record_metric(self, name: str, value: float) -> None:
        """A value read in the log: the last one of each name is shown by Describe, all of them go to CloudWatch."""
        with self.lock:
            self._history.setdefault(name, []).append(value)
            others = [entry for entry in self.fake.final_metric_data_list if entry["MetricName"] != name]
            self.fake.final_metric_data_list = [*others, {"MetricName": name, "Value": value, "Timestamp": state.now()}]
        state.put_metric(LOG_GROUP, name, value, {"TrainingJobName": self.name})

    def _upload(self, folder: Path, instances: list[contract.Instance]) -> None:
        target = f"{self.fake.output_data_config['S3OutputPath'].rstrip('/')}/{self.name}/output"
        if lost := next((instance.host for instance in instances if not (instance.base / "model").is_dir()), None):
            raise JobFault(f"ClientError: Artifact upload failed:the working folder of {lost} was removed while the job ran")
        artefacts = {"output.tar.gz": "output/data", "model.tar.gz": "model"}
        try:
            for name, source in artefacts.items():
                packed = channels.pack([instance.base / source for instance in instances], folder)
                if packed is not None:
                    channels.upload(f"{target}/{name}", packed)
        except OSError as error:  # a full disk, most likely
            raise JobFault(f"ClientError: Artifact upload failed:{error.strerror}") from None
        with self.lock:
            self.fake.model_artifacts = {"S3ModelArtifacts": f"{target}/model.tar.gz"}  # AWS names it also when there was no model


def instance_count(resource_config: dict) -> int:
    """How many instances a job asks for."""
    groups = resource_config.get("InstanceGroups") or []
    return resource_config.get("InstanceCount") or sum(group["InstanceCount"] for group in groups) or 1


def _show_as_started(fake: FakeTrainingJob, request: dict) -> None:
    """Undo moto's instant success, and show what it leaves out of the request."""
    fake.training_job_status, fake.secondary_status = "InProgress", "Starting"
    fake.secondary_status_transitions, fake.final_metric_data_list = [], []
    fake.model_artifacts = fake.training_start_time = fake.training_end_time = None
    fake.hyper_parameters = dict(sorted((fake.hyper_parameters or {}).items()))  # by name, as AWS answers
    fake.output_data_config = {"KmsKeyId": "", "CompressionType": "GZIP", **request["OutputDataConfig"]}  # attach() needs KmsKeyId
    fake.algorithm_specification = dict(request["AlgorithmSpecification"])
    fake.environment, fake.retry_strategy = request.get("Environment"), request.get("RetryStrategy")
    fake.profiler_config = request.get("ProfilerConfig")
    fake.profiler_rule_configurations = request.get("ProfilerRuleConfigurations")
    fake.profiling_status = "Disabled" if (fake.profiler_config or {"DisableProfiler": True}).get("DisableProfiler") else "Enabled"
