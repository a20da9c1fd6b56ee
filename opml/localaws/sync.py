"""Files of a running job on their way to S3, again and again: only what has changed since it was last sent."""

from collections.abc import Mapping
from pathlib import Path

from opml.localaws import channels
from opml.localaws.channels import JobFault


class Sync:
    """Brings changed files to one S3 prefix."""

    def __init__(self, uri: str):
        self.uri = uri.rstrip("/")
        self._sent: dict[str, tuple[int, int]] = {}

    def mark(self, files: Mapping[str, Path]) -> None:
        """Take these files (by their names below the prefix) as sent: they came from there."""
        self._sent |= {name: stamp(path) for name, path in files.items()}

    def send(self, files: Mapping[str, Path]) -> JobFault | None:
        """Send what has changed, in the given order; what S3 refuses ends it, is returned, and is sent again at the next call."""
        for name, path in files.items():
            try:
                now = stamp(path)
                if self._sent.get(name) != now:
                    channels.upload(f"{self.uri}/{name}", path.read_bytes())
                    self._sent[name] = now
            except FileNotFoundError:
                continue  # the script has replaced or removed it meanwhile: the next call sees what there is
            except JobFault as fault:
                return fault
        return None


def stamp(path: Path) -> tuple[int, int]:
    """What changes with a file's content: time of change (ns) and size."""
    status = path.stat()
    return status.st_mtime_ns, status.st_size
