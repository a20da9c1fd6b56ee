"""The process of one instance of a training job: its environment, its output, its metrics, its last words."""

import codecs
import contextlib
import re
import sys
import threading
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from opml.localaws import containers, contract, debugger_files, mounts, procs, requirements, state
from opml.localaws.settings import settings

if TYPE_CHECKING:
    from opml.localaws.training import Job

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
REASON_LENGTH = 1024  # characters of a failure reason that the API carries
TAIL = 60  # lines of output kept for the failure reason


class Worker:
    """The process of one instance and the thread that reads its output."""

    def __init__(self, job: "Job", instance: contract.Instance, port: int, credentials: dict[str, str]):
        self.job, self.instance = job, instance
        self.command = contract.command(instance, sys.executable, port)
        self.tail: deque[str] = deque(maxlen=TAIL)
        self._metrics = [(entry["Name"], re.compile(entry["Regex"])) for entry in _metric_definitions(job.request)]
        self._log = state.LogStream(LOG_GROUP, f"{job.name}/{instance.host}-{job.number}")
        image = job.request["AlgorithmSpecification"].get("TrainingImage", "")
        code = instance.base / "code"
        self._log.write([*containers.log_lines(image), *contract.log_lines(instance), *requirements.log_lines(code)])
        extra = contract.job_environment(instance, region=settings.region, arn=job.fake.arn, endpoint_url=settings.endpoint_url, port=port)
        extra |= debugger_files.environment(job.request, mounts.root(instance.base))
        asked = {**containers.environment(image), **(job.request.get("Environment") or {})}
        wanted = {**extra, **contract.sm_environment(instance), **asked, **credentials}
        self.process = procs.spawn(mounts.wrap(instance.base, self.command), env=procs.clean_env(**wanted), cwd=code)
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
        if hint := containers.missing_weights(self.tail):
            self._log.write([hint])
            foot = f"\n{hint}{foot}"
        return head + _last_words(self.tail, REASON_LENGTH - len(head) - len(foot)) + foot


def _last_words(tail: deque[str], room: int) -> str:
    """The end of the output that says most: from the last traceback on, else the last lines; its end if it is too long."""
    lines = list(tail)
    starts = [number for number, line in enumerate(lines) if line.startswith("Traceback (most recent call last)")]
    return "\n".join(lines[starts[-1] :] if starts else lines[-10:])[-room:]


def end_together(workers: list[Worker], grace: float) -> None:
    threads = [threading.Thread(target=worker.end, args=(grace,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _metric_definitions(request: dict) -> list[dict[str, str]]:
    return request["AlgorithmSpecification"].get("MetricDefinitions") or []
