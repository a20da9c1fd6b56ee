"""Rule evaluations of a training job: one process for all built-in rules, one for each custom rule, and the statuses they move along.

On AWS each rule is a processing job with a container of its own. Here a process says what it finds, one JSON object a line on its standard
output: ``{"rule": index, "status": ..., "details": ...}`` or ``{"rule": index, "log": ...}``. Its standard input is held open while the
training job saves; end of file tells it that nothing more will come.
"""

import contextlib
import json
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from moto.sagemaker.models import FakeTrainingJob

from opml.localaws import procs, state
from opml.localaws.settings import PACKAGE_ROOT, settings

if TYPE_CHECKING:
    from opml.localaws.training import Job

LOG_GROUP = "/aws/sagemaker/ProcessingJobs"
DETAILS_LENGTH = 1024  # characters of StatusDetails that the API carries
FINAL = ("NoIssuesFound", "IssuesFound", "Error", "Stopped")
BUILT_IN, CUSTOM = "opml.localaws.rule_worker", "opml.localaws.custom_rule_worker"


def initial_statuses(fake: FakeTrainingJob, rules: list[dict] | None) -> list[dict] | None:
    """What Describe shows of each configured rule before it is evaluated."""
    prefix = f"arn:aws:sagemaker:{settings.region}:{settings.account}:processing-job/{fake.training_job_name.lower()[:26]}"
    return [
        {
            "RuleConfigurationName": rule["RuleConfigurationName"],
            "RuleEvaluationJobArn": f"{prefix}-{rule['RuleConfigurationName'].lower()[:20]}-{number:08x}",
            "RuleEvaluationStatus": "InProgress", "LastModifiedTime": state.now(),
        }
        for number, rule in enumerate(rules or [])
    ] or None  # fmt: skip


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

    def wait(self, seconds: float | None) -> bool:
        """Whether all of its rules have a final status, at the latest after so many seconds."""
        self._threads[0].join(seconds)
        return not self._threads[0].is_alive()

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
