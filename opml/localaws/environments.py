"""One execution environment of a Lambda function: a process that keeps the imported handler and takes one event at a time."""

import datetime
import io
import json
import math
import os
import selectors
import shutil
import subprocess
import sys
import time
import uuid
import zipfile
from pathlib import Path
from typing import NamedTuple

import psutil

from opml.localaws import procs, state
from opml.localaws.settings import settings

WORKER = Path(__file__).with_name("lambda_worker.py")
INIT_SECONDS = 10.0  # AWS's limit; an init that takes longer goes on within the first invocation's timeout
WARM_SECONDS = 130.0  # AWS's limit for the init of provisioned concurrency
LARGEST_RESPONSE = 6_291_556  # bytes
TAIL_BYTES = 4096


class Outcome(NamedTuple):
    """What one invocation came to."""

    payload: str  # JSON
    failed: bool  # FunctionError "Unhandled"
    request_id: str
    milliseconds: float
    tail: bytes  # the end of its log


def fingerprint(fn) -> tuple:
    """What makes two execution environments of a function version interchangeable."""
    return fn.code_sha_256, fn.handler, fn.run_time, fn.timeout, fn.memory_size, fn.role, tuple(sorted(fn.environment_vars.items()))


def _obstacle(fn) -> str | None:
    """Why this function cannot run here, or None."""
    if fn.package_type != "Zip":
        return "The local AWS runs functions from zip archives only; this one is a container image."
    if not str(fn.run_time).startswith("python"):
        return f"The local AWS runs Python functions only; this one's runtime is {fn.run_time}."
    return None


class Environment:
    """A worker process for one function version.

    Parameters
    ----------
    fn
        moto's LambdaFunction: code, handler, settings, role
    provisioned
        belongs to provisioned concurrency: `warm` it before its first event
    """

    def __init__(self, fn, provisioned: bool = False):
        self.fn, self.fingerprint, self.last_used, self.provisioned = fn, fingerprint(fn), time.monotonic(), provisioned
        self.folder = Path(settings.root).absolute() / "functions" / uuid.uuid4().hex[:12]
        self._task, self._tmp = self.folder / "task", self.folder / "tmp"
        self._tmp.mkdir(parents=True)
        day = datetime.datetime.now(datetime.UTC).strftime("%Y/%m/%d")
        self._stream = f"{day}/[{fn.version}]{uuid.uuid4().hex}"
        self._log = state.LogStream(fn.logs_group_name, self._stream, (fn.role, fn.function_name, "lambda.amazonaws.com"))
        self._lines: list[str] = []  # of the present invocation
        self._partial = {"replies": b"", "output": b""}
        self._init_milliseconds: float | None = None  # None: not yet started
        self._report: dict | None = None  # the worker's word on its init; None: it has not come yet, {}: the process ended
        self.process: subprocess.Popen | None = None
        self._closed = False

    # ---- life -------------------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        with zipfile.ZipFile(io.BytesIO(self.fn.code_bytes)) as archive:
            archive.extractall(self._task)
        replies, told = os.pipe()
        try:
            command = [sys.executable, "-P", str(WORKER), str(told)]
            self.process = procs.spawn(command, env=self._variables(), cwd=self._task, pass_fds=(told,), stdin=subprocess.PIPE)
        finally:
            os.close(told)
        self._replies = os.fdopen(replies, "rb", 0)
        for pipe in (self._replies, self.process.stdout):
            os.set_blocking(pipe.fileno(), False)

    def _variables(self) -> dict[str, str]:
        fn = self.fn
        credentials = state.role_credentials(fn.role, fn.function_name)
        ours = {
            "_HANDLER": fn.handler, "LAMBDA_TASK_ROOT": str(self._task), "TMPDIR": str(self._tmp), "TZ": ":UTC",
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{fn.run_time}",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "provisioned-concurrency" if self.provisioned else "on-demand",
            "AWS_LAMBDA_FUNCTION_NAME": fn.function_name, "AWS_LAMBDA_FUNCTION_VERSION": str(fn.version),
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(fn.memory_size), "AWS_LAMBDA_LOG_GROUP_NAME": fn.logs_group_name,
            "AWS_LAMBDA_LOG_STREAM_NAME": self._stream, "AWS_REGION": fn.region, "AWS_DEFAULT_REGION": fn.region,
            "AWS_ENDPOINT_URL": settings.endpoint_url, "AWS_EC2_METADATA_DISABLED": "true",
        }  # fmt: skip
        return procs.clean_env(**{**fn.environment_vars, **ours, **credentials})

    def close(self) -> None:
        """End the process and remove its folder; safe to call twice, and before the process has started."""
        self._closed = True
        if self.process is not None:
            procs.end(self.process, grace=0.5)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def alive(self) -> bool:
        """Whether it can take another event."""
        return not self._closed and self.process is not None and self.process.poll() is None

    def warm(self) -> str | None:
        """Do the init before any event comes; None, or the JSON error that makes it useless."""
        if problem := self._initialise(WARM_SECONDS):
            return problem
        if self._report and not self._report["init"]:
            return None
        self._copy_output()
        return json.dumps(self._report["init"] if self._report else {"errorType": "Runtime.ExitError"})

    # ---- one event --------------------------------------------------------------------------------------------------------------

    def run(self, event: str, arn: str) -> Outcome:
        """Hand over one event (JSON text) and wait for the answer, at most the function's timeout; afterwards see `alive`."""
        request_id, self._lines = str(uuid.uuid4()), []
        cold = self._init_milliseconds is None
        if cold and (problem := self._initialise()):
            return self._finish(request_id, problem, True, time.perf_counter(), cold)
        self._say(f"START RequestId: {request_id} Version: {self.fn.version}")
        started = time.perf_counter()
        payload, failed = self._ask(event, request_id, arn)
        return self._finish(request_id, payload, failed, started, cold)

    def _initialise(self, seconds: float = INIT_SECONDS) -> str | None:
        """Start the process and let it import the handler; the payload of an error if that is not possible at all."""
        started = time.perf_counter()
        self._init_milliseconds = 0.0
        if obstacle := _obstacle(self.fn):
            return json.dumps({"errorType": "Runtime.InvalidRuntime", "errorMessage": obstacle})
        try:
            self._start()
        except LookupError as error:
            text = f"The role defined for the function cannot be assumed by Lambda: {error}"
            return json.dumps({"errorType": "Runtime.AccessDenied", "errorMessage": text})
        except zipfile.BadZipFile as error:
            return json.dumps({"errorType": "Runtime.InvalidZip", "errorMessage": f"Could not unzip uploaded file: {error}"})
        version = ".".join(str(part) for part in sys.version_info[:3])
        self._say(f"INIT_START Runtime Version: python:{version} (the local AWS's; the function asks for {self.fn.run_time})")
        self._report = self._next_reply(seconds)
        self._init_milliseconds = (time.perf_counter() - started) * 1000
        return None

    def _ask(self, event: str, request_id: str, arn: str) -> tuple[str, bool]:
        deadline = time.time() + self.fn.timeout
        if self._report is None:  # the init outlasted its limit: what is left of it comes first
            self._report = self._next_reply(self.fn.timeout)
        reply = self._report
        if reply:
            request = {"event": json.loads(event), "request_id": request_id, "arn": arn, "deadline": deadline}
            reply = self._next_reply(deadline - time.time()) if self._send(request) else {}
        if reply is None:
            return self._timed_out(request_id)
        return self._answer(reply, request_id) if reply else self._ended(request_id)

    def _send(self, request: dict) -> bool:
        """Write one line to the worker, which waits for it; False if the process has ended."""
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            return False
        return True

    def _answer(self, reply: dict, request_id: str) -> tuple[str, bool]:
        if error := reply.get("error"):
            self._say(f"[ERROR] {error.get('errorType')}: {error.get('errorMessage')}")
            if frames := error.get("stackTrace"):
                self._say("Traceback (most recent call last):", *"".join(frames).splitlines())
            return json.dumps(error), True
        if len(reply["result"].encode()) > LARGEST_RESPONSE:
            text = f"Response payload size exceeded maximum allowed payload size ({LARGEST_RESPONSE} bytes)."
            return json.dumps({"errorMessage": text, "errorType": "Function.ResponseSizeTooLarge"}), True
        return reply["result"], False

    def _timed_out(self, request_id: str) -> tuple[str, bool]:
        procs.end(self.process, grace=0)
        moment = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        text = f"{moment} {request_id} Task timed out after {self.fn.timeout:.2f} seconds"
        self._say(text)
        return json.dumps({"errorMessage": text}), True

    def _ended(self, request_id: str) -> tuple[str, bool]:
        status = procs.end(self.process, grace=1.0)
        how = "without providing a reason" if status == 0 else f"with error: exit status {status}"
        if status < 0:
            how = "with error: signal: killed"
        text = f"RequestId: {request_id} Error: Runtime exited {how}"
        self._say(text, "Runtime.ExitError")
        return json.dumps({"errorType": "Runtime.ExitError", "errorMessage": text}), True

    def _finish(self, request_id: str, payload: str, failed: bool, started: float, cold: bool) -> Outcome:
        milliseconds = (time.perf_counter() - started) * 1000
        self._copy_output()
        init = self._init_milliseconds if cold else 0.0
        report = [
            f"REPORT RequestId: {request_id}", f"Duration: {milliseconds:.2f} ms",
            f"Billed Duration: {math.ceil(milliseconds + init)} ms", f"Memory Size: {self.fn.memory_size} MB",
            f"Max Memory Used: {self._megabytes()} MB", *([f"Init Duration: {init:.2f} ms"] if init else []),
        ]  # fmt: skip
        self._say(f"END RequestId: {request_id}", "\t".join(report) + "\t")
        self.last_used = time.monotonic()
        return Outcome(payload, failed, request_id, milliseconds, "\n".join(self._lines).encode()[-TAIL_BYTES:])

    def _megabytes(self) -> int:
        try:
            return psutil.Process(self.process.pid).memory_info().rss // 2**20
        except (psutil.Error, AttributeError):
            return 0  # it ended: AWS shows its last value, which nobody took

    # ---- pipes ------------------------------------------------------------------------------------------------------------------

    def _next_reply(self, seconds: float) -> dict | None:
        """The next line of the worker; None after ``seconds``, {} if the process ended."""
        end = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._replies, selectors.EVENT_READ)
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._partial["replies"]:
                ready = selector.select(max(0.0, end - time.monotonic()))
                if not ready:
                    return None
                for key, _ in ready:
                    if key.fileobj is self._replies and not self._read_reply():
                        return {}
                    if key.fileobj is self.process.stdout and not self._copy_output():
                        selector.unregister(self.process.stdout)
        line, _, self._partial["replies"] = self._partial["replies"].partition(b"\n")
        return json.loads(line)

    def _read_reply(self) -> bool:
        chunk = self._replies.read(1 << 20)
        self._partial["replies"] += chunk or b""
        return bool(chunk)

    def _copy_output(self) -> bool:
        """Copy what the process has printed to the log; False at the end of its output."""
        if self.process is None:
            return False
        while chunk := _read_some(self.process.stdout):
            self._partial["output"] += chunk
        *whole, self._partial["output"] = self._partial["output"].split(b"\n")
        self._say(*(line.decode("utf-8", "replace") for line in whole))
        return chunk is None

    def _say(self, *lines: str) -> None:
        self._log.write(lines)
        self._lines += lines


def _read_some(pipe) -> bytes | None:
    """Bytes that are there, None if there are none now, b"" at the end."""
    try:
        return os.read(pipe.fileno(), 1 << 20)
    except BlockingIOError:
        return None
