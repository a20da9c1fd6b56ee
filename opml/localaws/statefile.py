"""Where a running local AWS leaves word of itself, so that other programs of the same user can find it (standard library only)."""

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from opml.errors import LocalAwsError

NAME = "local-aws.json"


def folder() -> Path:
    """``$XDG_STATE_HOME/opml`` or ``~/.local/state/opml``."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "opml"


def make_folder() -> Path:
    """The folder, made if missing, readable by its owner alone.

    Raises
    ------
    LocalAwsError
        The folder cannot be made, is not this user's, or is open to others: credentials must not be written there.
    """
    path = folder()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise LocalAwsError(
            f"cannot make the folder {path} for the local AWS: {error.strerror}. Set XDG_STATE_HOME to another one."
        ) from None
    _check(path, os.lstat(path), stat.S_ISDIR)
    return path


def read() -> dict | None:
    """What the running server wrote, or None if there is nothing; raises ``LocalAwsError`` on a file that others could have written."""
    path = folder() / NAME
    try:
        _check(path.parent, os.lstat(path.parent), stat.S_ISDIR)
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), encoding="utf-8") as file:
            _check(path, os.fstat(file.fileno()), stat.S_ISREG)
            return json.load(file)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise LocalAwsError(f"cannot read {path}: {error}. Remove it and run the command again.") from None


def write(entry: dict) -> None:
    """Replace the file at once, mode 0600."""
    path = make_folder() / NAME
    new = path.with_name(f"{NAME}.{os.getpid()}")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w", encoding="utf-8") as file:
        json.dump(entry, file)
    os.replace(new, path)


def remove(server_id: str) -> None:
    """Remove the file if it speaks of this server."""
    with contextlib.suppress(LocalAwsError):
        entry = read()
        if entry is not None and entry.get("server_id") == server_id:
            (folder() / NAME).unlink(missing_ok=True)


@contextlib.contextmanager
def lock() -> Iterator[None]:
    """One program at a time looks for a server and starts one if there is none."""
    import fcntl

    with open(make_folder() / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _check(path: Path, status: os.stat_result, is_kind) -> None:
    if not is_kind(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise LocalAwsError(f"{path} holds credentials of the local AWS but others may read or write it. Run: chmod -R go-rwx {path}")
