"""The server process: moto under werkzeug, behind the signature gate, with the services that really run.

``python -m opml.localaws.server --root FOLDER ...`` is started by ``lifecycle.start``. Its standard input is a pipe held by its owner: end
of file means that the owner is gone. It sends one line of JSON (port, credentials) over its standard output when it is ready, and nothing
else. However it ends, its reaper ends what it started.
"""

import argparse
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

from opml.localaws import procs, statefile
from opml.localaws.settings import PACKAGE_ROOT, settings

LOOK_AGAIN = 0.5  # seconds; a signal may be delivered to another thread than the one that waits, which then sees it this much later
HUNG = 6.0  # seconds for an orderly end
WARM = ("s3", "sts", "iam", "sagemaker", "logs")  # services whose first call would otherwise be slow


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM, SIGINT, the owner's end or idleness; then end everything that was started."""
    args = _arguments(argv)
    ending = Ending()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.ask())
    settings.root, settings.server_id = Path(args.root), os.environ[procs.OWNED_BY]
    scratch = settings.root / "tmp"  # what a killed job or client leaves there goes with the server
    scratch.mkdir()
    os.environ["TMPDIR"] = str(scratch)
    settings.time_scale, settings.lambda_concurrency = args.time_scale, args.lambda_concurrency
    reaper = _start_reaper()
    server, gate = _build(args.port)
    threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True, name="http").start()
    _announce(args, reaper.pid)
    if args.owner_pid:
        threading.Thread(target=_watch_owner, args=(args.owner_pid, ending), daemon=True, name="owner").start()
    if args.idle_minutes > 0:
        threading.Thread(target=_watch_idleness, args=(gate, args.idle_minutes * 60, ending), daemon=True, name="idle").start()
    while not ending.wait(LOOK_AGAIN):
        continue
    _end()
    return 0


class Ending:
    """A request to end that signal handlers may make: a pipe, because a handler that takes a lock can wait for itself."""

    def __init__(self):
        self._read, self._write = os.pipe()

    def ask(self) -> None:
        """Ask for the end."""
        os.write(self._write, b".")

    def wait(self, seconds: float) -> bool:
        """Whether the end was asked for, at the latest after ``seconds``."""
        return bool(select.select([self._read], [], [], seconds)[0])


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m opml.localaws.server", description="The local AWS; use `opml local` to start it.")
    parser.add_argument("--root", required=True, help="working folder, removed at the end")
    parser.add_argument("--port", type=int, default=0, help="TCP port of 127.0.0.1; 0 takes a free one")
    parser.add_argument("--owner-pid", type=int, default=0, help="end with this process and with end of file on standard input")
    parser.add_argument("--idle-minutes", type=float, default=0, help="end after so long without a request or a running job; 0 never")
    parser.add_argument("--time-scale", type=float, default=settings.time_scale, help="real seconds per simulated minute")
    parser.add_argument(
        "--lambda-concurrency", type=int, default=settings.lambda_concurrency, help="the account's limit of concurrent executions"
    )
    parser.add_argument("--register", action="store_true", help="leave word in the state file")
    return parser.parse_args(argv)


def _build(port: int):
    """(werkzeug server, gate) with our services in place of moto's."""
    os.environ["MOTO_IAM_LOAD_MANAGED_POLICIES"] = "true"  # read by moto at import
    os.environ["MOTO_DISABLE_GLOBAL_CORS"] = "true"  # no web page is to read our answers
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    from opml.localaws import api, function_urls, furniture, signing, state

    class QuietHandler(MotoRequestHandler):
        def log_request(self, *_args):
            """Say nothing: the log is for what goes wrong."""

    api.install()
    app = DomainDispatcherApplication(api.preparing(create_backend_app))
    server = make_server("127.0.0.1", port, app, threaded=True, request_handler=QuietHandler)
    server.daemon_threads = True
    settings.endpoint_url = f"http://127.0.0.1:{server.server_port}"
    server.app = gate = signing.Gate(function_urls.FunctionUrls(app), state.find_key, server.server_port, is_public=function_urls.is_public)
    furniture.furnish()
    threading.Thread(target=_warm, args=(app,), daemon=True, name="warm").start()
    return server, gate


def _warm(app) -> None:
    """Let moto build the services that everybody uses, while the first caller is still on the way."""
    for service in WARM:
        scope = f"AWS4-HMAC-SHA256 Credential=warm/20200101/{settings.region}/{service}/aws4_request,"
        app.get_application({"HTTP_AUTHORIZATION": scope, "PATH_INFO": "/", "HTTP_HOST": "127.0.0.1"})


def _announce(args: argparse.Namespace, reaper_pid: int) -> None:
    """Tell the starter (and the state file) how to reach us, then turn standard output into the log."""
    word = {
        "endpoint_url": settings.endpoint_url, "access_key_id": settings.owner_access_key_id,
        "secret_access_key": settings.owner_secret_access_key, "region": settings.region, "account": settings.account,
        "role_arn": settings.role_arn, "bucket": settings.bucket, "server_id": settings.server_id,
        "scratch": os.environ["TMPDIR"], "pid": os.getpid(), "reaper_pid": reaper_pid, "started": psutil.Process().create_time(),
    }  # fmt: skip
    if args.register:
        statefile.write(word)
    sys.stdout.write(json.dumps(word) + "\n")
    sys.stdout.flush()
    os.dup2(2, 1)


def _watch_owner(owner_pid: int, ending: Ending) -> None:
    """End with the owner. Its children may hold the pipe open after its death, so its process is looked at as well."""
    try:
        owner = psutil.Process(owner_pid)
        while owner.is_running() and owner.status() != psutil.STATUS_ZOMBIE:
            if select.select([0], [], [], 1.0)[0] and not os.read(0, 1):
                break
    except psutil.NoSuchProcess:
        pass  # gone between two looks
    ending.ask()


def _watch_idleness(gate, seconds: float, ending: Ending) -> None:
    from opml.localaws import training

    while not ending.wait(min(seconds, 10.0)):
        if training.is_busy():
            gate.last_request = time.monotonic()
        if time.monotonic() - gate.last_request > seconds:
            ending.ask()
            return


def _exit_after(seconds: float) -> None:
    timer = threading.Timer(seconds, os._exit, (1,))
    timer.daemon = True
    timer.start()


def _start_reaper() -> subprocess.Popen:
    env = {**procs.clean_env(), "PYTHONPATH": str(PACKAGE_ROOT)}
    env.pop(procs.OWNED_BY)
    if "XDG_STATE_HOME" in os.environ:
        env["XDG_STATE_HOME"] = os.environ["XDG_STATE_HOME"]
    command = [sys.executable, "-m", "opml.localaws.reaper", settings.server_id, str(settings.root)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=env, cwd="/", start_new_session=True)


def _end() -> None:
    """Take down what was started. What is still being answered ends with this process; the reaper then sweeps once more."""
    _exit_after(HUNG)
    procs.close()
    procs.end_all()
    procs.sweep(settings.server_id, settings.root)
    statefile.remove(settings.server_id)


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # all is cleaned up; taking moto's objects apart would take a second
