"""Processes of the local AWS: each in its own session, from a clean environment, marked, and never left behind."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterable, Sequence

import psutil

from opml import machine
from opml.localaws.settings import OWNED_BY, settings

_running: set[subprocess.Popen] = set()
_lock = threading.Lock()
_closing = threading.Event()


class Closing(RuntimeError):
    """The server is ending: no process may be started any more."""


def clean_env(**extra: str) -> dict[str, str]:
    """The environment of a child: what programs need of the machine, nothing of the user's secrets, and our mark."""
    return {**machine.environment(), **extra, OWNED_BY: settings.server_id}


def spawn(command: Sequence[str], *, env: dict[str, str], cwd: str | os.PathLike, **options) -> subprocess.Popen:
    """Start a command in a session of its own; ``options`` go to ``Popen`` (default: merged output on ``.stdout``)."""
    defaults = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with _lock:  # against end_all: a process is either refused or registered, never in between
        if _closing.is_set():
            raise Closing("the local AWS is ending")
        process = subprocess.Popen(list(command), env=env, cwd=cwd, start_new_session=True, **{**defaults, **options})
        _running.add(process)
    return process


def close() -> None:
    """From now on ``spawn`` refuses: the first act of an ending server."""
    with _lock:
        _closing.set()


def signal_group(process: subprocess.Popen, number: int) -> None:
    """Send a signal to the process and to what it started in its session; a group that is gone is fine."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def end(process: subprocess.Popen, grace: float = 2.0) -> int:
    """SIGTERM to the group, ``grace`` seconds, SIGKILL; returns the exit status."""
    if process.poll() is None:
        signal_group(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace)
    signal_group(process, signal.SIGKILL)  # also what the leader left in its group
    status = process.wait()
    with _lock:
        _running.discard(process)
    return status


def end_all(grace: float = 1.0) -> None:
    """End every process that is still registered, all at once."""
    with _lock:
        processes = list(_running)
    for process in processes:
        signal_group(process, signal.SIGTERM)
    deadline = time.monotonic() + grace
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
        end(process, grace=0)


def marked(server_id: str, *, but: Iterable[int] = ()) -> list[psutil.Process]:
    """The live processes of this user that carry the server's mark, whatever session or parent they have.

    The server carries it too: a child that it had just forked when it was killed has the server's environment until it runs its program.
    """
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid not in but and process.environ().get(OWNED_BY) == server_id and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess, OSError):
            continue  # another user's, or gone meanwhile: not ours to end
    return found


def sweep(server_id: str, root: os.PathLike | None = None, grace: float = 2.0) -> None:
    """End every marked process but this one, then remove the working folder: the last act of a server or of its reaper."""
    me = os.getpid()
    victims = marked(server_id, but=[me])
    for process in victims:
        _quietly(process.terminate)
    psutil.wait_procs(victims, timeout=grace)
    for _ in range(5):  # a dying process may still have forked
        if not (victims := marked(server_id, but=[me])):
            break
        for process in victims:
            _quietly(process.kill)
        psutil.wait_procs(victims, timeout=1.0)
    if root is not None:
        shutil.rmtree(root, ignore_errors=True)


def _quietly(action) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        action()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
