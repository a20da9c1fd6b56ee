"""Debugger and profiler of one training job: what it saves goes to S3 while it runs, the machine is sampled, rules are evaluated."""

import contextlib
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from opml.localaws import channels, debugger_files, iam_acting, rule_process, state
from opml.localaws.contract import Instance
from opml.localaws.debugger_files import PRODUCTS, RULE_OUTPUT
from opml.localaws.debugger_upload import Upload, gather
from opml.localaws.rule_process import FINAL, Evaluation, set_status
from opml.localaws.settings import settings
from opml.localaws.system_metrics import Sampler
from opml.localaws.worker import LOG_GROUP

if TYPE_CHECKING:
    from opml.localaws.training import Job

EVERY = 1.0  # seconds between two looks at what the script has saved
PATIENCE = 20.0  # seconds that a job waits for its rules at its end; what takes longer goes on after it
END = "training_job_end.ts"  # readers of a trial, and rules, wait for more until this is there
KINDS = {"debug": "DebugRuleConfigurations", "profiler": "ProfilerRuleConfigurations"}


class Debugger:
    """Watches one job; ``watching`` while its script runs, ``finish`` at its end."""

    def __init__(self, job: "Job"):
        self._job, self._request, fake = job, job.request, job.fake
        fake.debug_rule_evaluation_statuses = rule_process.initial_statuses(fake, self._request.get(KINDS["debug"]))
        fake.profiler_rule_evaluation_statuses = rule_process.initial_statuses(fake, self._request.get(KINDS["profiler"]))
        self._members = [member for member in PRODUCTS if self._is_saved(member)]
        self._instances: list[Instance] = []
        self._folder: Path | None = None  # made when the job trains
        self._uploads: list[Upload] = []
        self._evaluations: list[Evaluation] = []
        self._sampler: Sampler | None = None
        self._fault = ""
        self._closing, self._collector = threading.Event(), None

    def _is_saved(self, member: str) -> bool:
        return debugger_files.is_profiled(self._request) if member == "ProfilerConfig" else self._request.get(member) is not None

    @contextlib.contextmanager
    def watching(self, instances: list[Instance], credentials: dict[str, str]) -> Iterator[None]:
        """Collect what the script saves as long as the block runs; after a spot interruption it runs again, on other instances."""
        if self._folder is None and (self._members or self._statuses()):
            self._open(instances, credentials)
        self._instances = instances
        self._closing.clear()
        self._collector = threading.Thread(target=self._collect_often, args=(iam_acting.current(),), daemon=True, name="debugger")
        self._collector.start()
        try:
            yield
        finally:
            self._closing.set()
            self._collector.join()
            self._collect()

    def finish(self) -> None:
        """Close what was saved, and wait a while for the rules; what is not judged by then is judged after the job's end."""
        if self._folder is None:
            self._stop_rules("The training job ended before its script was started.")
            return
        with iam_acting.acting_as(self._job.fake.role_arn):
            self._close()
        for evaluation in self._evaluations:
            evaluation.finish()
        judging = threading.Thread(target=self._judge, daemon=True, name=f"rules {self._job.name}")
        judging.start()
        judging.join(PATIENCE)

    def end(self) -> None:
        """End what still runs for the job."""
        for evaluation in self._evaluations:
            evaluation.end()

    def _open(self, instances: list[Instance], credentials: dict[str, str]) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="debugger-", dir=settings.root / "jobs"))
        for member in self._members:
            self._uploads.append(Upload(self._folder / PRODUCTS[member][3], f"{self._prefix(self._request[member])}/{PRODUCTS[member][3]}"))
        if "ProfilerConfig" in self._members:
            milliseconds = self._request["ProfilerConfig"].get("ProfilingIntervalInMilliseconds") or debugger_files.DEFAULT_MILLISECONDS
            self._sampler = Sampler(self._folder / "profiler-output", instances[0].hosts, milliseconds)
        self._evaluate(credentials)

    def _prefix(self, config: dict) -> str:
        place = config.get("S3OutputPath") or self._job.fake.output_data_config["S3OutputPath"]
        return f"{place.rstrip('/')}/{self._job.name}"

    def _collect_often(self, acting: tuple[str, str, str] | None) -> None:
        with iam_acting.acting_as(*acting) if acting else contextlib.nullcontext():
            while not self._closing.wait(EVERY):
                self._collect()

    def _collect(self) -> None:
        """Bring what is new from the instances to the job's folder, and from there to S3."""
        if self._folder is None:
            return
        for member in self._members:
            folders = [debugger_files.folder_in(instance.base, self._request, member) for instance in self._instances]
            try:
                gather(folders, self._folder / PRODUCTS[member][3])
            except OSError as error:  # a full disk, most likely: not the script's fault
                self._fault = f"{error.strerror}: {error.filename}"
        for upload in self._uploads:
            upload.send()

    def _close(self) -> None:
        if self._sampler is not None:
            self._sampler.close()
        for product, name in (("debug-output", END), ("profiler-output", f"system/{END}")):
            if any(upload.folder.name == product for upload in self._uploads):
                channels.write(self._folder / product, name, b"")
        for upload in self._uploads:
            upload.send()
        self._warn()

    def _warn(self) -> None:
        """What is off is said in the job's log: an empty trial must never be silent."""
        lines = [f"local AWS: {upload.folder.name} is incomplete: {upload.fault}" for upload in self._uploads if upload.fault]
        lines += [f"local AWS: what Debugger saves is incomplete: {self._fault}"] if self._fault else []
        if self._request.get(KINDS["debug"]) and not self.has_tensors:
            why = "the script registered no smdebug hook" if "DebugHookConfig" in self._members else "the request has no DebugHookConfig"
            lines.append(f"local AWS: no debugging data was saved, so no rule can be evaluated: {why} (docs/local-aws.md, Debugger)")
        if lines:
            with iam_acting.acting_as(self._job.fake.role_arn):
                state.LogStream(LOG_GROUP, f"{self._job.name}/algo-1-{self._job.number}").write(lines)

    @property
    def has_tensors(self) -> bool:
        """Whether the script has saved any."""
        return self._folder is not None and (self._folder / "debug-output" / "index").is_dir()

    # ---- rules ------------------------------------------------------------------------------------------------------------------

    def _statuses(self) -> list[dict]:
        fake = self._job.fake
        return [*(fake.debug_rule_evaluation_statuses or []), *(fake.profiler_rule_evaluation_statuses or [])]

    def _stop_rules(self, details: str) -> None:
        with self._job.lock:
            for status in self._statuses():
                if status["RuleEvaluationStatus"] not in FINAL:
                    set_status(status, "Stopped", details)

    def _evaluate(self, credentials: dict[str, str]) -> None:
        """Start the processes that evaluate the job's rules."""
        kinds = [(kind, rule) for kind, member in KINDS.items() for rule in self._request.get(member) or []]
        pairs = [(status, self._rule(kind, rule)) for status, (kind, rule) in zip(self._statuses(), kinds, strict=True)]
        custom = [pair for pair in pairs if "source_s3_uri" in pair[1]["parameters"]]
        groups = [(rule_process.CUSTOM, [pair]) for pair in custom]
        built_in = [pair for pair in pairs if pair not in custom]
        groups += [(rule_process.BUILT_IN, built_in)] if built_in else []
        for number, (program, group) in enumerate(groups):
            statuses, rules = [status for status, _ in group], [rule for _, rule in group]
            folder = self._folder / "rules" / str(number)
            task = {"tensors": str(self._folder / "debug-output"), "profiler": str(self._folder / "profiler-output"), "rules": rules}
            try:
                if program == rule_process.CUSTOM:
                    channels.write(folder, "custom_rule.py", state.get_object(rules[0]["parameters"]["source_s3_uri"]))
                self._evaluations.append(Evaluation(self._job, program, statuses, task, folder, credentials))
            except (iam_acting.AccessDenied, state.NoSuchObject) as error:
                set_status(statuses[0], "Error", f"ClientError: the rule's source cannot be downloaded: {error}")

    def _rule(self, kind: str, rule: dict) -> dict:
        name, parameters = rule["RuleConfigurationName"], dict(rule.get("RuleParameters") or {})
        output = self._folder / RULE_OUTPUT / name
        output.mkdir(parents=True, exist_ok=True)
        self._uploads.append(Upload(output, f"{self._prefix(rule)}/{RULE_OUTPUT}/{name}"))
        return {
            "name": name, "kind": kind, "rule": parameters.pop("rule_to_invoke", name), "parameters": parameters,
            "output": str(output), "job": self._job.name,
        }  # fmt: skip

    def _judge(self) -> None:
        """Wait for the rules, send what they leave, and clean up."""
        for evaluation in self._evaluations:
            evaluation.wait(None)
        with iam_acting.acting_as(self._job.fake.role_arn):
            for upload in self._uploads:
                upload.send()
        shutil.rmtree(self._folder, ignore_errors=True)
