"""One instance of an endpoint: a model server process, its folder, its log stream and its connections.

The server listens on a Unix socket inside the working folder, not on a port: nothing else on the machine, and no web page, can reach
it, and there is no Nagle delay to switch off. Only `opml.localaws.runtime_api` talks to it, after the request was authenticated.
"""

import contextlib
import http.client
import io
import os
import secrets
import selectors
import shutil
import socket
import sys
import tarfile
import threading
import time
from collections import deque
from pathlib import Path
from typing import NamedTuple

from opml.localaws import containers, iam_acting, procs, state
from opml.localaws.settings import settings

WORKER = Path(__file__).with_name("serve_worker.py")
CONTAINER_MODEL_DIR = "/opt/ml/model"  # where AWS's container has the model; ours has it in the instance's folder
STARTUP_SECONDS = 240.0  # without ContainerStartupHealthCheckTimeoutInSeconds: what AWS's default comes to in practice
LONGEST_SOCKET_PATH = 100  # the kernel's limit is 108 bytes on Linux, 104 on macOS


class StartFailed(Exception):
    """The instance cannot serve; the message is AWS's and becomes the endpoint's FailureReason."""


class InvocationTimedOut(Exception):
    """The model server gave no answer in time."""


class Reply(NamedTuple):
    """What the model server answered."""

    status: int
    headers: dict[str, str]
    body: bytes


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path):
        super().__init__("localhost")
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self._path)


def _unpack(uri: str, folder: Path) -> None:
    """Extract a model archive from S3; the two failures have AWS's texts."""
    advice = "that the role passed to CreateModel has permissions to download the model"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(fileobj=io.BytesIO(state.get_object(uri)), mode="r:*") as archive:
            archive.extractall(folder, filter="data")
    except (state.NoSuchObject, iam_acting.AccessDenied):
        raise StartFailed(
            f'Failed to download model data for container "container_1" from URL: "{uri}". '
            f"Please ensure that there is an object located at the URL and {advice}."
        ) from None
    except (tarfile.TarError, OSError) as error:
        raise StartFailed(
            f'Failed to extract model data archive for container "container_1" from URL "{uri}" ({error}). '
            "Please ensure that the object located at the URL is a valid tar.gz archive."
        ) from error


class Instance:
    """A running model server.

    Parameters
    ----------
    endpoint, variant
        names; log group ``/aws/sagemaker/Endpoints/<endpoint>``, stream ``<variant>/<instance id>``
    container
        ``ModelDataUrl`` and ``Environment`` of CreateModel
    credentials
        environment variables with the model role's credentials
    """

    def __init__(self, endpoint: str, variant: str, container: dict, credentials: dict[str, str]):
        self.id = "i-" + secrets.token_hex(9)[:17]
        self.variant, self.in_flight, self.reviving = variant, 0, False
        self.folder = Path(settings.root).absolute() / "endpoints" / self.id
        self._socket = self.folder / "http"
        if len(os.fsencode(self._socket)) > LONGEST_SOCKET_PATH:
            raise StartFailed(f"The working folder's path is too long for a socket: {self.folder}. Start the local AWS with a shorter one.")
        self._idle: deque[_Connection] = deque()
        self._changed = threading.Condition()
        self._tail: deque[str] = deque(maxlen=60)  # lines of output that may say why it does not start
        environment = {**containers.environment(container.get("Image", "")), **self._lay_out(container)}
        self._log = state.LogStream(f"/aws/sagemaker/Endpoints/{endpoint}", f"{variant}/{self.id}")
        self._log.write(containers.log_lines(container.get("Image", "")))
        self._spawn({**environment, **credentials})

    def _lay_out(self, container: dict) -> dict[str, str]:
        """Unpack model and code as the container has them; returns the container's environment with its paths relocated."""
        model = self.folder / "model"
        model.mkdir(parents=True)
        if uri := container.get("ModelDataUrl"):
            _unpack(uri, model)
        asked = dict(container.get("Environment") or {})
        code = asked.get("SAGEMAKER_SUBMIT_DIRECTORY") or f"{CONTAINER_MODEL_DIR}/code"
        if code.startswith("s3://"):
            _unpack(code, self.folder / "code")
            code = str(self.folder / "code")
        code = code.removeprefix("file://").replace(CONTAINER_MODEL_DIR, str(model), 1)
        paths = {"SAGEMAKER_SUBMIT_DIRECTORY": code, "SAGEMAKER_BASE_DIR": str(self.folder), "SM_MODEL_DIR": str(model), "PYTHONPATH": code}
        return {"OMP_NUM_THREADS": "1", **asked, **paths}

    def _spawn(self, environment: dict[str, str]) -> None:
        region = {"AWS_DEFAULT_REGION": settings.region, "AWS_REGION": settings.region, "SAGEMAKER_REGION": settings.region}
        wire = {"AWS_ENDPOINT_URL": settings.endpoint_url, "AWS_EC2_METADATA_DISABLED": "true"}
        ready, told = os.pipe()
        self._ready = os.fdopen(ready, "rb", 0)
        try:
            self.process = procs.spawn(
                [sys.executable, "-P", str(WORKER), str(self._socket), str(told)],
                env=procs.clean_env(**{**environment, **region, **wire}), cwd=self.folder, pass_fds=(told,),
            )  # fmt: skip
        finally:
            os.close(told)
        self._pump = threading.Thread(target=self._copy_log, daemon=True)
        self._pump.start()

    def _copy_log(self) -> None:
        with self.process.stdout as output:
            for line in output:
                self._tail.append(line.decode("utf-8", "replace").rstrip("\r\n"))
                self._log.write([self._tail[-1]])

    def wait_ready(self, seconds: float = STARTUP_SECONDS) -> None:
        """Return when the model is loaded and ``/ping`` answers 200; `StartFailed` if the process ends or ``seconds`` pass first."""
        with self._ready, selectors.DefaultSelector() as selector:
            selector.register(self._ready, selectors.EVENT_READ)
            if selector.select(seconds) and self._ready.read(1) and self._ping():
                return
        raise StartFailed(
            f"The primary container for production variant {self.variant} did not pass the ping health check. "
            "Please check CloudWatch logs for this endpoint." + self._hint()
        )

    def _hint(self) -> str:
        """What the log says that only this machine can cure."""
        if self.process.poll() is not None:
            self._pump.join(1.0)  # the last lines
        hint = containers.missing_weights(self._tail)
        return f" {hint}" if hint else ""

    def _ping(self) -> bool:
        try:
            return self._exchange("GET", "/ping", None, {}, 5.0).status == 200
        except (OSError, http.client.HTTPException):
            return False

    def request(self, body: bytes, headers: dict[str, str], seconds: float) -> Reply:
        """``POST /invocations``; `InvocationTimedOut` after ``seconds``, `ConnectionError` if the process ended meanwhile."""
        try:
            return self._exchange("POST", "/invocations", body, headers, seconds)
        except TimeoutError as error:
            raise InvocationTimedOut(self.id) from error
        except (OSError, http.client.HTTPException) as error:
            raise ConnectionError(self.id) from error

    def _exchange(self, method: str, path: str, body: bytes | None, headers: dict[str, str], seconds: float) -> Reply:
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = _Connection(self._socket)
            connection.connect()
        try:
            connection.sock.settimeout(seconds)
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            reply = Reply(answer.status, dict(answer.getheaders()), answer.read())
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        return reply

    @contextlib.contextmanager
    def busy(self):
        """Count one request for the least-busy choice and for `drain`; enter with the fleet's lock held."""
        try:
            yield self
        finally:
            with self._changed:
                self.in_flight -= 1
                self._changed.notify_all()

    def drain(self, seconds: float) -> None:
        """Wait until no request is left in the process, at most ``seconds``."""
        deadline = time.monotonic() + seconds
        with self._changed:
            self._changed.wait_for(lambda: self.in_flight == 0, deadline - time.monotonic())

    def stop(self) -> None:
        """End the process and remove its folder; safe to call twice and from several threads."""
        procs.end(self.process, grace=1.0)
        self._pump.join(1.0)
        shutil.rmtree(self.folder, ignore_errors=True)
