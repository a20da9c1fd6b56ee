"""Debugger and profiler of one training job: what it saves goes to S3 while it runs, the machine is sampled, rules are evaluated."""

import contextlib
import json
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from opml.localaws import channels, debugger_files, iam_acting, mounts, state
from opml.localaws.contract import Instance
from opml.localaws.debugger_files import PRODUCTS, RULE_OUTPUT
from opml.localaws.debugger_upload import Upload, gather
from opml.localaws.rule_process import Rules
from opml.localaws.settings import settings
from opml.localaws.system_metrics import Sampler
from opml.localaws.worker import LOG_GROUP

if TYPE_CHECKING:
    from opml.localaws.training import Job

EVERY = 1.0  # seconds between two looks at what the script has saved
PATIENCE = 20.0  # seconds that a job waits for its rules at its end; what takes longer goes on after it
END = "training_job_end.ts"  # readers of a trial, and rules, wait for more until this is there


class Debugger:
    """Watches one job; ``watching`` while its script runs, ``finish`` at its end."""

    def __init__(self, job: "Job"):
        self._job, self._request, self._rules = job, job.request, Rules(job)
        self._instances: list[Instance] = []
        self._credentials: dict[str, str] = {}
        self._folder: Path | None = None  # made when the job trains
        self._uploads: dict[Path, Upload] = {}
        self._sampler: Sampler | None = None
        self._fault = ""
        self._lock = threading.Lock()  # one look at a time
        self._closing = threading.Event()

    def _members(self) -> list[str]:
        """What of the request leaves something behind."""
        saved = [member for member in PRODUCTS if member != "ProfilerConfig" and self._request.get(member) is not None]
        return saved + (["ProfilerConfig"] if debugger_files.is_profiled(self._request) else [])

    @contextlib.contextmanager
    def watching(self, instances: list[Instance], credentials: dict[str, str]) -> Iterator[None]:
        """Collect what the script saves as long as the block runs; after a spot interruption it runs again, on other instances."""
        self._instances, self._credentials = instances, credentials
        if self._folder is None:
            self._open()
        self._closing.clear()
        collector = threading.Thread(target=self._collect_often, args=(iam_acting.current(),), daemon=True, name="debugger")
        collector.start()
        try:
            yield
        finally:
            self._closing.set()
            collector.join()
            self._collect()

    def update(self, request: dict) -> bool:
        """What UpdateTrainingJob changes of a job that trains: the profiler, and more of its rules; False if it trains no more."""
        with self._lock, iam_acting.acting_as(self._job.fake.role_arn):
            if not self.is_open():  # asked here too: whoever waits for the lock may come after the job's end
                return False
            if "ProfilerConfig" in request:
                self._change_profiler(request["ProfilerConfig"])
            self._rules.add(request.get("ProfilerRuleConfigurations") or [], self._folder, self._credentials, self._output_of)
            return True

    def is_open(self) -> bool:
        """Whether the job trains, so that something can be changed."""
        return self._folder is not None and not self._closing.is_set()

    def finish(self) -> None:
        """Close what was saved, and wait a while for the rules; what is not judged by then is judged after the job's end."""
        if self._folder is None:
            self._rules.stop_all("The training job ended before its script was started.")
            return
        self._closing.set()
        try:
            with self._lock, iam_acting.acting_as(self._job.fake.role_arn):
                self._close()
        finally:  # also on a full disk: the rules' processes wait for this word
            self._rules.finish()
            judging = threading.Thread(target=self._judge, daemon=True, name=f"rules {self._job.name}")
            judging.start()
            judging.join(PATIENCE)

    def end(self) -> None:
        """End what still runs for the job."""
        self._rules.end()

    def _open(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="debugger-", dir=settings.root / "jobs"))
        for member in self._members():
            self._upload_to(PRODUCTS[member][3], self._request[member])
        self._sample()
        self._rules.start(self._folder, self._credentials, self._output_of)

    def _upload_to(self, product: str, config: dict) -> Path:
        """The folder of a product, which is sent below ``<S3OutputPath>/<job>/``."""
        place = config.get("S3OutputPath") or self._job.fake.output_data_config["S3OutputPath"]
        folder = self._folder / product
        folder.mkdir(parents=True, exist_ok=True)
        self._uploads.setdefault(folder, Upload(folder, f"{place.rstrip('/')}/{self._job.name}/{product}"))
        return folder

    def _output_of(self, rule: dict) -> Path:
        return self._upload_to(f"{RULE_OUTPUT}/{rule['RuleConfigurationName']}", rule)

    def _sample(self) -> None:
        """Sample the machine if it is asked for, at the interval that is asked for now."""
        if self._sampler is not None:
            self._sampler.close()
            self._sampler = None
        if debugger_files.is_profiled(self._request):
            milliseconds = self._request["ProfilerConfig"].get("ProfilingIntervalInMilliseconds") or debugger_files.DEFAULT_MILLISECONDS
            self._sampler = Sampler(self._folder / "profiler-output", self._instances[0].hosts, milliseconds)

    def _change_profiler(self, changes: dict) -> None:
        config = self._request["ProfilerConfig"] = {**(self._request.get("ProfilerConfig") or {}), **changes}
        config.setdefault("S3OutputPath", self._job.fake.output_data_config["S3OutputPath"])
        with self._job.lock:
            self._job.fake.profiler_config = config
            self._job.fake.profiling_status = "Enabled" if debugger_files.is_profiled(self._request) else "Disabled"
        self._upload_to("profiler-output", config)
        for instance in self._instances:  # smdebug reads it again at each step
            content = debugger_files.files(self._request, mounts.root(instance.base))["profilerconfig.json"]
            (instance.base / debugger_files.CONFIG / "profilerconfig.json").write_text(json.dumps(content))
        self._sample()

    def _collect_often(self, acting: tuple[str, str, str] | None) -> None:
        with iam_acting.acting_as(*acting) if acting else contextlib.nullcontext():
            while not self._closing.wait(EVERY):
                self._collect()

    def _collect(self) -> None:
        """Bring what is new from the instances to the job's folder, and from there to S3."""
        with self._lock:
            for member in self._members():
                folders = [debugger_files.folder_in(instance.base, self._request, member) for instance in self._instances]
                try:
                    gather(folders, self._folder / PRODUCTS[member][3])
                except OSError as error:  # a full disk, most likely: not the script's fault
                    self._fault = f"{error.strerror}: {error.filename}"
            self._send()

    def _send(self) -> None:
        for upload in self._uploads.values():
            upload.send()

    def _close(self) -> None:
        if self._sampler is not None:
            self._sampler.close()
        for product, name in (("debug-output", END), ("profiler-output", f"system/{END}")):
            if self._folder / product in self._uploads:
                channels.write(self._folder / product, name, b"")
        self._send()
        self._warn()

    def _warn(self) -> None:
        """What is off is said in the job's log: an empty trial must never be silent."""
        faults = [f"{upload.folder.name}: {upload.fault}" for upload in self._uploads.values() if upload.fault]
        faults += [self._fault] if self._fault else []
        lines = [f"local AWS: what Debugger saves is incomplete: {fault}" for fault in faults]
        hook = self._request.get("DebugHookConfig")
        asked = self._request.get("DebugRuleConfigurations") or (hook or {}).get("CollectionConfigurations")
        if asked and not (self._folder / "debug-output" / "index").is_dir():
            why = "the request has no DebugHookConfig" if hook is None else "the script registered no smdebug hook"
            lines.append(f"local AWS: no debugging data was saved, so no rule can be evaluated: {why} (docs/local-aws.md, Debugger)")
        if lines:
            state.LogStream(LOG_GROUP, f"{self._job.name}/algo-1-{self._job.number}").write(lines)

    def _judge(self) -> None:
        """Wait for the rules, send what they leave, and clean up."""
        self._rules.wait()
        self._rules.stop_all("The rule was not evaluated to its end.")  # its process could not be started
        try:
            with iam_acting.acting_as(self._job.fake.role_arn):
                self._send()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
