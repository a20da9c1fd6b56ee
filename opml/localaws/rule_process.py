"""Rule evaluations of a training job: one process for all built-in rules, one for each custom rule, and the statuses they move along.

On AWS each rule is a processing job with a container of its own. Here a process says what it finds, one JSON object a line on its standard
output: ``{"rule": index, "status": ..., "details": ...}`` or ``{"rule": index, "log": ...}``. Its standard input is held open while the
training job saves; end of file tells it that nothing more will come.
"""

import contextlib
import itertools
import json
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from opml.localaws import channels, iam_acting, procs, state
from opml.localaws.settings import PACKAGE_ROOT, settings

if TYPE_CHECKING:
    from opml.localaws.training import Job

LOG_GROUP = "/aws/sagemaker/ProcessingJobs"
DETAILS_LENGTH = 1024  # characters of StatusDetails that the API carries
FINAL = ("NoIssuesFound", "IssuesFound", "Error", "Stopped")
KINDS = {"debug": "DebugRuleConfigurations", "profiler": "ProfilerRuleConfigurations"}
BUILT_IN, CUSTOM = "opml.localaws.rule_worker", "opml.localaws.custom_rule_worker"


class Evaluation:
    """One process and the rules that it evaluates.

    Parameters
    ----------
    statuses : list of dict
        The rules' elements of ``DebugRuleEvaluationStatuses`` or ``ProfilerRuleEvaluationStatuses``.
    task : dict
        What the process needs to know, as JSON; ``rules`` in the order of ``statuses``.
    """

    def __init__(self, job: "Job", program: str, statuses: list[dict], task: dict, folder: Path, credentials: dict[str, str]):
        self._job, self._statuses = job, statuses
        self._logs = [state.LogStream(LOG_GROUP, f"{_processing_job(status)}/algo-1-{job.number}") for status in statuses]
        self._tail: deque[str] = deque(maxlen=20)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "task.json").write_text(json.dumps(task))
        region = {"AWS_REGION": settings.region, "AWS_DEFAULT_REGION": settings.region, "AWS_EC2_METADATA_DISABLED": "true"}
        env = procs.clean_env(PYTHONPATH=str(PACKAGE_ROOT), AWS_ENDPOINT_URL=settings.endpoint_url, **region, **credentials)
        command = [sys.executable, "-m", program, str(folder / "task.json")]
        self._process = procs.spawn(command, env=env, cwd=folder, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        self._threads = [
            threading.Thread(target=target, daemon=True, name=f"rules {job.name}") for target in (self._read_words, self._read_output)
        ]
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        """Tell the process that the job saves no more."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def wait(self) -> None:
        """Wait until the process has ended: all of its rules have a final status then."""
        self._threads[0].join()

    def end(self) -> None:
        """End the process; rules without a final status are stopped."""
        self._say_rest("Stopped", "The rule evaluation was stopped.")
        procs.end(self._process)

    def _read_words(self) -> None:
        for line in self._process.stdout:
            word = json.loads(line)
            if "log" in word:
                self._logs[word["rule"]].write([word["log"]])
            else:
                self._say(self._statuses[word["rule"]], word["status"], word.get("details", ""))
        self._threads[1].join()  # to its end, for the reason
        code = procs.end(self._process)
        reason = self._tail[-1] if self._tail else f"exit code {code}"
        self._say_rest("Error", f"InternalServerError: the process that evaluates the rule ended: {reason}")

    def _read_output(self) -> None:
        for line in self._process.stderr:
            text = line.decode("utf-8", "replace").rstrip()
            self._tail.append(text)
            self._logs[0].write([text])

    def _say_rest(self, status: str, details: str) -> None:
        for entry in self._statuses:
            self._say(entry, status, details)

    def _say(self, entry: dict, status: str, details: str) -> None:
        """Change a status; a final one stays."""
        with self._job.lock:
            if entry["RuleEvaluationStatus"] not in FINAL:
                set_status(entry, status, details)


def set_status(entry: dict, status: str, details: str) -> None:
    """Write an element of the rule evaluation statuses."""
    entry |= {"RuleEvaluationStatus": status, "StatusDetails": details[:DETAILS_LENGTH], "LastModifiedTime": state.now()}


def _processing_job(status: dict) -> str:
    return status["RuleEvaluationJobArn"].rpartition("/")[2]


class Rules:
    """The rules of one job: their statuses as Describe shows them, and the processes that evaluate them."""

    def __init__(self, job: "Job"):
        self._job, self._evaluations, self._numbers = job, [], itertools.count()
        fake, asked = job.fake, job.request
        fake.debug_rule_evaluation_statuses = [self._initial(rule) for rule in asked.get(KINDS["debug"]) or []] or None
        fake.profiler_rule_evaluation_statuses = [self._initial(rule) for rule in asked.get(KINDS["profiler"]) or []] or None

    def __bool__(self) -> bool:
        return bool(self._statuses())

    def start(self, work: Path, credentials: dict[str, str], output_of: Callable[[dict], Path]) -> None:
        """Start the processes of all rules; ``output_of`` names the folder that a rule may fill."""
        fake, asked = self._job.fake, self._job.request
        for kind, statuses in (("debug", fake.debug_rule_evaluation_statuses), ("profiler", fake.profiler_rule_evaluation_statuses)):
            self._add(kind, statuses or [], asked.get(KINDS[kind]) or [], work, credentials, output_of)

    def add(self, rules: list[dict], work: Path, credentials: dict[str, str], output_of: Callable[[dict], Path]) -> None:
        """Start profiler rules that the job is given while it runs."""
        fake, statuses = self._job.fake, [self._initial(rule) for rule in rules]
        with self._job.lock:
            fake.profiler_rule_evaluation_statuses = [*(fake.profiler_rule_evaluation_statuses or []), *statuses]
            fake.profiler_rule_configurations = [*(fake.profiler_rule_configurations or []), *rules]
        self._add("profiler", statuses, rules, work, credentials, output_of)

    def stop_all(self, details: str) -> None:
        """No rule can be evaluated any more."""
        with self._job.lock:
            for status in self._statuses():
                if status["RuleEvaluationStatus"] not in FINAL:
                    set_status(status, "Stopped", details)

    def finish(self) -> None:
        """Tell all processes that the job saves no more."""
        for evaluation in self._evaluations:
            evaluation.finish()

    def wait(self) -> None:
        """Wait until every rule has a final status."""
        for evaluation in self._evaluations:
            evaluation.wait()

    def end(self) -> None:
        """End all processes."""
        for evaluation in self._evaluations:
            evaluation.end()

    def _statuses(self) -> list[dict]:
        fake = self._job.fake
        return [*(fake.debug_rule_evaluation_statuses or []), *(fake.profiler_rule_evaluation_statuses or [])]

    def _initial(self, rule: dict) -> dict:
        name, job = rule["RuleConfigurationName"], self._job.name.lower()[:26]
        arn = f"arn:aws:sagemaker:{settings.region}:{settings.account}:processing-job/{job}-{name.lower()[:20]}-{next(self._numbers):08x}"
        now = {"RuleEvaluationStatus": "InProgress", "LastModifiedTime": state.now()}
        return {"RuleConfigurationName": name, "RuleEvaluationJobArn": arn, **now}

    def _add(self, kind: str, statuses: list[dict], rules: list[dict], work: Path, credentials: dict[str, str], output_of) -> None:
        built_in = []
        for status, rule in zip(statuses, rules, strict=True):
            told = _told(kind, rule, output_of(rule), self._job.name)
            if "source_s3_uri" in told["parameters"]:
                self._start_custom(status, told, work, credentials)
            else:
                built_in.append((status, told))
        if built_in:
            self._start(BUILT_IN, [status for status, _ in built_in], [told for _, told in built_in], work, credentials)

    def _start_custom(self, status: dict, told: dict, work: Path, credentials: dict[str, str]) -> None:
        try:
            source = state.get_object(told["parameters"]["source_s3_uri"])
        except (iam_acting.AccessDenied, state.NoSuchObject) as error:
            set_status(status, "Error", f"ClientError: the rule's source cannot be downloaded: {error}")
            return
        self._start(CUSTOM, [status], [told], work, credentials, source)

    def _start(self, program: str, statuses: list, rules: list, work: Path, credentials: dict[str, str], source: bytes = b"") -> None:
        task = {"tensors": str(work / "debug-output"), "profiler": str(work / "profiler-output"), "rules": rules}
        folder = work / "rules" / str(len(self._evaluations))
        if source:
            channels.write(folder, "custom_rule.py", source)
        self._evaluations.append(Evaluation(self._job, program, statuses, task, folder, credentials))


def _told(kind: str, rule: dict, output: Path, job: str) -> dict:
    """What a rule's process is told of it."""
    name, parameters = rule["RuleConfigurationName"], dict(rule.get("RuleParameters") or {})
    chosen = parameters.pop("rule_to_invoke", name)
    return {"name": name, "kind": kind, "rule": chosen, "parameters": parameters, "output": str(output), "job": job}
