"""Training jobs that run: one process an instance, with the files, the environment, the logs and the statuses of SageMaker.

moto's ``FakeTrainingJob`` stays the single source of what Describe and List show; a ``Job`` moves it along.
"""

import codecs
import contextlib
import json
import os
import re
import shutil
import sys
import tempfile
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from moto.sagemaker.models import FakeTrainingJob

from opml.localaws import channels, contract, procs, state
from opml.localaws.channels import JobFault
from opml.localaws.settings import settings

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
DAY = 24 * 3600.0
STOP_GRACE = 10.0  # seconds between SIGTERM and SIGKILL; AWS gives 120
FAIL_GRACE = 1.0  # the other instances of a job of which one has failed
REASON_LENGTH = 1024  # characters of a failure reason that the API carries
TAIL = 60  # lines of output kept for the failure reason
TERMINAL = ("Completed", "Failed", "Stopped")
RULES_NOT_EVALUATED = "The local AWS stores rule configurations but does not evaluate rules yet."

MESSAGES = {
    "Starting": "Preparing the instances for training",
    "Downloading": "Downloading input data",
    "Training": "Training image download completed. Training in progress.",
    "Stopping": "Stopping the training job",
    "Uploading": "Uploading generated training model",
    "Completed": "Training job completed",
    "Failed": "Training job failed",
    "Stopped": "Training job stopped",
    "MaxRuntimeExceeded": "Training job runtime exceeded MaxRuntimeInSeconds provided",
}

JOBS: dict[str, "Job"] = {}


def is_busy() -> bool:
    """Whether any job is still at work."""
    return any(not job.done.is_set() for job in list(JOBS.values()))


class Slots:
    """The instances that this machine runs at one time; a job takes all of its own at once, in turn."""

    def __init__(self):
        self._free: int | None = None
        self._turn = threading.Condition()

    @contextlib.contextmanager
    def take(self, count: int, given_up: threading.Event) -> Iterator[None]:
        """Wait for ``count`` slots (at most as many as there are), or until the job is given up."""
        count = min(count, settings.max_parallel_instances)
        with self._turn:
            if self._free is None:
                self._free = settings.max_parallel_instances
            while self._free < count and not given_up.is_set():
                self._turn.wait(0.2)
            self._free -= count
        try:
            yield
        finally:
            with self._turn:
                self._free += count
                self._turn.notify_all()


SLOTS = Slots()


class Job:
    """Runs one training job in threads and processes; ``fake`` is what the API shows of it."""

    def __init__(self, fake: FakeTrainingJob, request: dict):
        self.fake, self.request = fake, request
        self.lock = threading.RLock()  # status and secondary status change together
        self.stopping, self.done = threading.Event(), threading.Event()
        self.workers: list[Worker] = []
        self._history: dict[str, list[float]] = {}
        _show_as_started(fake, request)
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

    def _finish(self, secondary: str, reason: str | None = None) -> None:
        fake = self.fake
        with self.lock:
            if reason is not None:
                fake.failure_reason = reason[:REASON_LENGTH]
            fake.training_end_time = state.now()
            if fake.training_start_time is not None:
                seconds = (fake.training_end_time - fake.training_start_time).total_seconds()
                fake.training_time_in_seconds = fake.billable_time_in_seconds = max(1, round(seconds))
            self._transition(secondary)
            fake.training_job_status = "Stopped" if secondary == "MaxRuntimeExceeded" else secondary
        self.done.set()

    def _run(self) -> None:
        secondary, reason, folder = "Failed", None, None
        try:
            count = instance_count(self.fake.resource_config)
            with SLOTS.take(count, self.stopping):
                folder = _job_folder(self.name)
                secondary, reason = self._execute(folder, count)
        except JobFault as fault:
            reason = str(fault)
        except Exception as error:  # the thread's last stand: a job must never be left InProgress
            traceback.print_exc()
            reason = f"InternalServerError: {type(error).__name__}: {error}"
        finally:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
            self._finish(secondary, reason)

    def _execute(self, folder: Path, count: int) -> tuple[str, str | None]:
        """Everything between Starting and the end: (last secondary status, failure reason)."""
        if self.stopping.is_set():
            return "Stopped", None
        with self.lock:
            self.fake.training_start_time = state.now()
        self._transition("Downloading")
        try:
            instances = self._prepare(folder, count)
        except OSError as error:
            raise JobFault(f"ClientError: Data download failed:{error.strerror}") from None
        self._transition("Training")
        outcome = self._train(instances)
        if not self.stopping.is_set():
            self._transition("Uploading")
        try:
            self._upload(folder, instances)
        except JobFault:
            if outcome[0] != "Failed":  # else the script's own failure is what the reader must see
                raise
        return outcome

    def _prepare(self, folder: Path, count: int) -> list[contract.Instance]:
        hosts = tuple(f"algo-{number + 1}" for number in range(count))
        instances = [self._instance(folder, host, hosts) for host in hosts]
        values = contract.decode(self.fake.hyper_parameters)
        if "sagemaker_program" not in values:
            raise JobFault("ClientError: the local AWS runs scripts only, and the hyper-parameter sagemaker_program names none")
        for index, instance in enumerate(instances):
            for name in contract.FOLDERS:
                (instance.base / name).mkdir(parents=True)
            for name, content in contract.config_files(instance).items():
                (instance.base / "input/config" / name).write_text(json.dumps(content))
            for channel in self.fake.input_data_config or []:
                channels.download(channel, instance.base / "input/data" / channel["ChannelName"], index, count, self.fake.role_arn)
            if "sagemaker_submit_directory" in values:
                channels.unpack_code(values["sagemaker_submit_directory"], instance.base / "code")
        return instances

    def _instance(self, folder: Path, host: str, hosts: tuple[str, ...]) -> contract.Instance:
        return contract.Instance(
            job_name=self.name, host=host, hosts=hosts, instance_type=self.fake.resource_config.get("InstanceType", "local"),
            base=folder / host / "opt" / "ml", hyperparameters=dict(self.fake.hyper_parameters), num_cpus=os.cpu_count() or 1,
            input_data_config={channel["ChannelName"]: _channel_settings(channel) for channel in self.fake.input_data_config or []},
        )  # fmt: skip

    def _train(self, instances: list[contract.Instance]) -> tuple[str, str | None]:
        port, credentials = procs.free_port(), state.role_credentials(self.fake.role_arn, "SageMaker")
        self.workers = [Worker(self, instance, port, credentials) for instance in instances]
        deadline = time.monotonic() + (self.fake.stopping_condition or {}).get("MaxRuntimeInSeconds", DAY)
        failed, late = self._watch(deadline)
        ending = STOP_GRACE if late or self.stopping.is_set() else FAIL_GRACE
        _end_together(self.workers, ending)
        if failed is not None:
            return "Failed", failed.failure_reason()
        if self.stopping.is_set():
            return "Stopped", None
        return ("MaxRuntimeExceeded" if late else "Completed"), None

    def _watch(self, deadline: float) -> tuple["Worker | None", bool]:
        """Wait until all instances are done, one has failed, the job is stopped or it is too late: (the failed one, late?)."""
        while True:
            statuses = [worker.process.poll() for worker in self.workers]
            failed = next((worker for worker, status in zip(self.workers, statuses, strict=True) if status not in (None, 0)), None)
            if self.stopping.is_set():
                return None, False
            if failed is not None or None not in statuses:
                return failed, False
            if time.monotonic() > deadline:
                return None, True
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


class Worker:
    """The process of one instance and the thread that reads its output."""

    def __init__(self, job: Job, instance: contract.Instance, port: int, credentials: dict[str, str]):
        self.job, self.instance = job, instance
        self.command = contract.command(instance, sys.executable, port)
        self.tail: deque[str] = deque(maxlen=TAIL)
        self._metrics = [(entry["Name"], re.compile(entry["Regex"])) for entry in _metric_definitions(job.request)]
        self._log = state.LogStream(LOG_GROUP, f"{job.name}/{instance.host}-{int(time.time())}")
        self._log.write(contract.log_lines(instance))
        extra = contract.job_environment(instance, region=settings.region, arn=job.fake.arn, endpoint_url=settings.endpoint_url, port=port)
        wanted = {**extra, **contract.sm_environment(instance), **(job.request.get("Environment") or {}), **credentials}
        self.process = procs.spawn(self.command, env=procs.clean_env(**wanted), cwd=instance.base / "code")
        self._pump = threading.Thread(target=self._read, daemon=True, name=f"log {job.name} {instance.host}")
        self._pump.start()

    def end(self, grace: float) -> None:
        """End the process if it still runs, and read its output to the end."""
        procs.end(self.process, grace)
        self._pump.join(10)

    def _read(self) -> None:
        decoder, rest = codecs.getincrementaldecoder("utf-8")("replace"), ""
        while chunk := self.process.stdout.read1(65536):
            *lines, rest = re.split(r"[\r\n]", rest + decoder.decode(chunk))  # progress bars end their lines with \r
            self._take([line for line in lines if line.strip()])
        self._take([rest] if rest.strip() else [])

    def _take(self, lines: list[str]) -> None:
        self._log.write(lines)
        self.tail.extend(lines)
        for line in lines:
            for name, expression in self._metrics:
                for match in expression.finditer(line):
                    with contextlib.suppress(ValueError, IndexError):  # not a number: as on AWS, no metric
                        self.job.record_metric(name, float(match.group(1)))

    def failure_reason(self) -> str:
        """AWS's text: what the script wrote to ``output/failure``, else the end of its output."""
        status = self.process.returncode
        code = status if status > 0 else 128 - status  # a signal, as the shell counts it: SIGKILL is 137
        written = self.instance.base / "output" / "failure"
        text = written.read_text(errors="replace").strip() if written.is_file() else ""
        end = f", exit code: {code}"
        if text:
            return f"AlgorithmError: {text[: REASON_LENGTH - len(end) - 16]}{end}"
        command = " ".join([Path(self.command[0]).name, *self.command[1:]])[:200]
        head, foot = f'AlgorithmError: ExecuteUserScriptError:\nExitCode {code}\nErrorMessage "', f'"\nCommand "{command}"{end}'
        return head + _last_words(self.tail, REASON_LENGTH - len(head) - len(foot)) + foot


def _last_words(tail: deque[str], room: int) -> str:
    """The end of the output that says most: from the last traceback on, else the last lines; its end if it is too long."""
    lines = list(tail)
    starts = [number for number, line in enumerate(lines) if line.startswith("Traceback (most recent call last)")]
    return "\n".join(lines[starts[-1] :] if starts else lines[-10:])[-room:]


def _end_together(workers: list[Worker], grace: float) -> None:
    threads = [threading.Thread(target=worker.end, args=(grace,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _job_folder(name: str) -> Path:
    """A folder of the job's own; lower case, because smdebug lower-cases the paths in its configuration."""
    jobs = settings.root / "jobs"
    jobs.mkdir(exist_ok=True)
    folder = jobs / name.lower()
    return folder if _made(folder) else Path(tempfile.mkdtemp(prefix=f"{name.lower()}-", dir=jobs))


def _made(folder: Path) -> bool:
    try:
        folder.mkdir(mode=0o700)
        return True
    except FileExistsError:  # a job whose name differs in case only
        return False


def instance_count(resource_config: dict) -> int:
    """How many instances a job asks for."""
    groups = resource_config.get("InstanceGroups") or []
    return resource_config.get("InstanceCount") or sum(group["InstanceCount"] for group in groups) or 1


def _channel_settings(channel: dict) -> dict:
    source = channel["DataSource"]["S3DataSource"]
    values = {
        "TrainingInputMode": channel.get("InputMode", "File"), "RecordWrapperType": channel.get("RecordWrapperType", "None"),
        "S3DistributionType": source.get("S3DataDistributionType", "FullyReplicated"),
    }  # fmt: skip
    return values | ({"ContentType": channel["ContentType"]} if channel.get("ContentType") else {})


def _metric_definitions(request: dict) -> list[dict[str, str]]:
    return request["AlgorithmSpecification"].get("MetricDefinitions") or []


def _show_as_started(fake: FakeTrainingJob, request: dict) -> None:
    """Undo moto's instant success, and show what it leaves out of the request."""
    fake.training_job_status, fake.secondary_status = "InProgress", "Starting"
    fake.secondary_status_transitions, fake.final_metric_data_list = [], []
    fake.model_artifacts = fake.training_start_time = fake.training_end_time = None
    fake.hyper_parameters = fake.hyper_parameters or {}
    fake.output_data_config = {"KmsKeyId": "", "CompressionType": "GZIP", **request["OutputDataConfig"]}  # attach() needs KmsKeyId
    fake.algorithm_specification = dict(request["AlgorithmSpecification"])
    fake.environment, fake.retry_strategy = request.get("Environment"), request.get("RetryStrategy")
    fake.profiler_config = request.get("ProfilerConfig")
    fake.profiler_rule_configurations = request.get("ProfilerRuleConfigurations")
    fake.profiling_status = "Disabled" if (fake.profiler_config or {"DisableProfiler": True}).get("DisableProfiler") else "Enabled"
    fake.debug_rule_evaluation_statuses = _rule_statuses(fake, request.get("DebugRuleConfigurations"))
    fake.profiler_rule_evaluation_statuses = _rule_statuses(fake, request.get("ProfilerRuleConfigurations"))


def _rule_statuses(fake: FakeTrainingJob, rules: list[dict] | None) -> list[dict] | None:
    """Configured rules are not evaluated yet, and say so; never NoIssuesFound."""
    prefix = f"arn:aws:sagemaker:{settings.region}:{settings.account}:processing-job/{fake.training_job_name.lower()[:26]}"
    return [
        {
            "RuleConfigurationName": rule["RuleConfigurationName"],
            "RuleEvaluationJobArn": f"{prefix}-{rule['RuleConfigurationName'].lower()[:20]}-{number:08x}",
            "RuleEvaluationStatus": "Stopped", "StatusDetails": RULES_NOT_EVALUATED, "LastModifiedTime": state.now(),
        }
        for number, rule in enumerate(rules or [])
    ] or None  # fmt: skip
