"""Checkpoints of a training job: downloaded before the script starts, sent to S3 while it runs and at its end."""

import contextlib
import threading
from pathlib import Path, PurePosixPath

from opml.localaws import channels, iam_acting, state
from opml.localaws.sync import Sync

DEFAULT_PATH = "/opt/ml/checkpoints"
EVERY = 2.0  # seconds between two looks at the folder


def folder_in(base: Path, config: dict) -> Path:
    """Where ``CheckpointConfig.LocalPath`` lies in an instance's tree, of which ``base`` stands for ``/opt/ml``."""
    return base / PurePosixPath(config.get("LocalPath") or DEFAULT_PATH).relative_to("/opt/ml")


def fault(config: dict) -> str | None:
    """What cannot be done about a ``CheckpointConfig``, or None."""
    path = PurePosixPath(config.get("LocalPath") or DEFAULT_PATH)
    if path.is_relative_to("/opt/ml") and len(path.parts) > 3 and ".." not in path.parts:
        return None
    return f"The local AWS keeps checkpoints below /opt/ml only: CheckpointConfig.LocalPath is {path}."


class Checkpoints:
    """Keeps the folders of all instances and one S3 prefix together; of equal names, the first instance's counts."""

    def __init__(self, uri: str, folders: list[Path]):
        self._uri, self._folders = uri.rstrip("/"), folders
        self._sync = Sync(uri)
        self._closing, self._fault = threading.Event(), None
        self._acting = iam_acting.current()  # the job's role, for the thread that watches
        self._thread = threading.Thread(target=self._watch, daemon=True, name=f"checkpoints {uri}")

    def open(self) -> None:
        """Download what there is to every instance, and begin to watch."""
        bucket, prefix = state.split_uri(f"{self._uri}/")
        failed = f"Checkpoint download failed:Unable to list objects under {self._uri}"
        with channels.denied(failed):
            keys = [key for key in state.list_objects(f"{self._uri}/") if not key.endswith("/")]
        for key in keys:
            body = channels.fetch(f"s3://{bucket}/{key}", failed)
            for folder in self._folders:
                channels.write(folder, key[len(prefix) :], body)
        self._sync.mark(self._files())
        self._thread.start()

    def close(self) -> None:
        """Send what has changed since the last look; JobFault if S3 does not take it."""
        self._closing.set()
        self._thread.join()
        self._send()
        if self._fault is not None:
            raise self._fault

    def _watch(self) -> None:
        with iam_acting.acting_as(*self._acting) if self._acting else contextlib.nullcontext():
            while not self._closing.wait(EVERY):
                self._send()

    def _send(self) -> None:
        self._fault = self._sync.send(self._files()) or self._fault

    def _files(self) -> dict[str, Path]:
        return {str(path.relative_to(folder)): path for folder in reversed(self._folders) for path in channels.files(folder)}
