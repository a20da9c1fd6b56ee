"""Start, find and stop a local AWS. The server is a process of its own that ends when its owner ends."""

import atexit
import contextlib
import json
import os
import secrets
import select
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from opml.errors import BadInput, LocalAwsError
from opml.localaws import statefile
from opml.localaws.settings import ACCOUNT, OWNED_BY, PACKAGE_ROOT

READY_WITHIN = 60.0  # seconds; it takes about one, but a busy machine may need longer
GONE_WITHIN = 15.0  # seconds for the server to end its processes and itself
STARTER = "python -m opml local start"
TIME_SCALE = 60.0  # real seconds per simulated minute: AWS's own pace


@dataclass(frozen=True)
class LocalAws:
    """A running local AWS: how to reach it, and a way to end it."""

    endpoint_url: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    region: str
    account: str
    role_arn: str
    bucket: str
    session_token: str = field(default="", repr=False)  # of temporary credentials
    server_id: str = ""
    pid: int = 0  # 0: known from the environment only
    reaper_pid: int = 0
    started: float = 0.0  # seconds since the epoch
    scratch: str = ""  # a folder for temporary files of those who use it, removed with the server
    _child: subprocess.Popen | None = field(default=None, repr=False, compare=False)

    def env(self) -> dict[str, str]:
        """What any AWS client needs to talk to this server, plus the account's default role and bucket."""
        token = {"AWS_SESSION_TOKEN": self.session_token} if self.session_token else {}
        return token | {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "OPML_ROLE_ARN": self.role_arn,
            "OPML_BUCKET": self.bucket,
        }

    def client(self, service: str):
        """A boto3 client with these credentials, whatever the environment says; does not retry."""
        import boto3
        from botocore.config import Config

        config = Config(connect_timeout=2, retries={"total_max_attempts": 1}, proxies={})
        keys = {"aws_access_key_id": self.access_key_id, "aws_secret_access_key": self.secret_access_key}
        keys |= {"aws_session_token": self.session_token} if self.session_token else {}
        return boto3.Session(region_name=self.region, **keys).client(service, endpoint_url=self.endpoint_url, config=config)

    def answers(self) -> bool:
        """Whether a signed ``sts:GetCallerIdentity`` is answered as this account.

        Raises
        ------
        LocalAwsError
            It would be, but the session that these credentials are of is over, and nobody else knows the server.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return self.client("sts").get_caller_identity()["Account"] == self.account
        except (BotoCoreError, ClientError, OSError) as error:
            if not self.pid and getattr(error, "response", {}).get("Error", {}).get("Code") == "ExpiredToken":
                raise LocalAwsError(
                    f"the session at the local AWS {self.endpoint_url} is over after 12 hours: restart the notebook's kernel, or the shell"
                ) from None
            return False  # nobody, or somebody else, listens there

    def caller(self) -> str:
        """The ARN of the principal that these credentials are of."""
        return self.client("sts").get_caller_identity()["Arn"]

    def is_alive(self) -> bool:
        """Whether the server's process is the one that wrote this down (its number may have been given to another since)."""
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.started) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
        return False

    def stop(self) -> None:
        """End the server and wait until it, its reaper and all it started are gone; a server that is gone already is fine."""
        if not self.pid:
            raise LocalAwsError(f"the local AWS at {self.endpoint_url} is known from the environment only: stop it where it was started")
        if self._child is not None and self._child.stdin is not None:
            self._child.stdin.close()
        if self.is_alive():
            _end(psutil.Process(self.pid))
        if self._child is not None:
            self._child.wait()
        with contextlib.suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
            reaper = psutil.Process(self.reaper_pid)
            if abs(reaper.create_time() - self.started) < READY_WITHIN:
                reaper.wait(GONE_WITHIN)


def _end(server: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        server.terminate()
        try:
            server.wait(GONE_WITHIN)
        except psutil.TimeoutExpired:
            server.kill()  # its reaper sees to the rest
            server.wait(GONE_WITHIN)


def start(
    *, register: bool = True, owned: bool = True, idle_minutes: float = 0, time_scale: float = TIME_SCALE, lambda_concurrency: int = 1000
) -> LocalAws:
    """Start a local AWS and wait until it is ready (about a second).

    Parameters
    ----------
    register : bool
        Leave word in the state file, so that ``find`` in other programs finds it. An isolated server (False) never touches that file.
    owned : bool
        The server ends when this process ends, however it ends. False: it lives until ``stop`` or until it has been idle.
    idle_minutes : float
        End after so many minutes without a request or a running job; 0 never.
    time_scale : float
        Real seconds per simulated minute, for what AWS takes minutes to decide: alarms, cooldowns, retries of events.
    lambda_concurrency : int
        The account's limit of concurrent Lambda executions; AWS's default is 1000, new accounts have 10.

    Raises
    ------
    BadInput
        A setting that no server can have.
    LocalAwsError
        It did not become ready; the message carries the end of its log.
    """
    _check(time_scale, lambda_concurrency)
    if register:
        statefile.make_folder()  # fail before anything runs
    root = Path(tempfile.mkdtemp(prefix="opml-"))  # 0700
    more = ["--idle-minutes", idle_minutes, "--time-scale", time_scale, "--lambda-concurrency", lambda_concurrency]
    child = _spawn(root, more, register=register, owned=owned)
    try:
        word = _ready_word(child, root)
    except BaseException:
        child.kill()
        child.wait()
        shutil.rmtree(root, ignore_errors=True)
        raise
    local = LocalAws(**word, _child=child if owned else None)
    if owned:
        atexit.register(_stop_own, local, os.getpid())
    return local


def _check(time_scale: float, lambda_concurrency: int) -> None:
    if not 0.01 <= time_scale <= 3600:
        raise BadInput(f"time_scale is the real seconds per simulated minute, between 0.01 and 3600; it is {time_scale:g}")
    if lambda_concurrency < 1:
        raise BadInput(f"lambda_concurrency must be at least 1, it is {lambda_concurrency}")


def _spawn(root: Path, more: list, *, register: bool, owned: bool) -> subprocess.Popen:
    command = [sys.executable, "-m", "opml.localaws.server", "--root", str(root), *map(str, more)]
    command += ["--register"] * register + ["--owner-pid", str(os.getpid())] * owned
    with open(root / "server.log", "wb") as log:
        return subprocess.Popen(
            command, env=_server_env(), cwd=root, start_new_session=True,  # Ctrl-C is for the owner, which then ends the server
            stdin=subprocess.PIPE if owned else subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
        )  # fmt: skip


def _server_env() -> dict[str, str]:
    """The user's environment without AWS settings (moto and jobs must not see real keys) and under a mark of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MOTO_"))}
    return {**kept, "PYTHONPATH": str(PACKAGE_ROOT), "PYTHONUNBUFFERED": "1", OWNED_BY: secrets.token_hex(8)}


def _ready_word(child: subprocess.Popen, root: Path) -> dict:
    """The JSON line that the server sends when it is ready."""
    ready, _, _ = select.select([child.stdout], [], [], READY_WITHIN)
    line = child.stdout.readline() if ready else b""
    child.stdout.close()
    if line.endswith(b"\n"):
        return json.loads(line)
    tail = (root / "server.log").read_text(errors="replace").strip().splitlines()[-12:]
    reason = "\n".join(tail) or f"it said nothing for {READY_WITHIN:.0f} seconds"
    raise LocalAwsError(f"the local AWS did not start:\n{reason}")


def _stop_own(local: LocalAws, owner: int) -> None:
    if os.getpid() == owner:  # not in a forked child
        local.stop()


def find() -> LocalAws | None:
    """The running local AWS that the environment names, else the one of the state file; None if there is none that answers."""
    if (local := _from_environment()) is not None and local.answers():
        return local
    return find_registered()


def find_registered() -> LocalAws | None:
    """The running local AWS of the state file, or None."""
    local = _from_state_file()
    return local if local is not None and local.answers() else None


def find_or_start() -> LocalAws:
    """A running server, else a new one that ends with this process; two programs that ask at once get the same one."""
    if (local := _from_environment()) is not None and local.answers():
        return local
    with statefile.lock():
        return find() or start()


def _from_state_file() -> LocalAws | None:
    entry = statefile.read()
    if entry is None:
        return None
    local = LocalAws(**entry)
    if local.is_alive():
        return local
    statefile.remove(local.server_id)
    return None


def _from_environment() -> LocalAws | None:
    env = os.environ
    endpoint, role, bucket = (env.get(name, "") for name in ("AWS_ENDPOINT_URL", "OPML_ROLE_ARN", "OPML_BUCKET"))
    if not (is_loopback(endpoint) and role and bucket and "AWS_ACCESS_KEY_ID" in env and "AWS_SECRET_ACCESS_KEY" in env):
        return None
    registered = _from_state_file()
    keys = {
        "access_key_id": env["AWS_ACCESS_KEY_ID"], "secret_access_key": env["AWS_SECRET_ACCESS_KEY"],
        "session_token": env.get("AWS_SESSION_TOKEN", ""), "role_arn": role, "bucket": bucket,
    }  # fmt: skip
    if registered is not None and registered.endpoint_url == endpoint:
        return replace(registered, **keys)
    return LocalAws(endpoint_url=endpoint, region=env.get("AWS_DEFAULT_REGION", ""), account=ACCOUNT, **keys)


def is_loopback(endpoint_url: str) -> bool:
    """Whether an endpoint URL is on this machine, as the local AWS's always is."""
    return endpoint_url.startswith(("http://127.0.0.1:", "http://localhost:"))


def uptime(local: LocalAws) -> float:
    """Seconds since the server was started."""
    return time.time() - local.started
