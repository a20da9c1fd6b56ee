"""What Debugger and profiler leave, on its way to S3 while the job runs: instances' folders -> the job's folder -> the bucket."""

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from opml.localaws import channels
from opml.localaws.channels import JobFault

NOT_SENT = (".tmp", "claim.smd")  # a file that is still written; smdebug's lock
LAST = "index"  # smdebug looks for a step's tensors as soon as its index is there


def gather(folders: list[Path], target: Path) -> None:
    """Link what is new in the instances' folders into one; of equal names the first instance's counts.

    Links, because tensors can be large; where links cannot be had (another disk) the files are copied.
    """
    wanted = {path.relative_to(folder): path for folder in reversed(folders) for path in channels.files(folder)}
    for name, path in sorted(wanted.items(), key=lambda item: (LAST in item[0].parts, item[0])):
        if not path.name.endswith(NOT_SENT):
            with contextlib.suppress(FileNotFoundError):  # the script has replaced or removed it meanwhile
                _link(path, target / name)


def _link(path: Path, target: Path) -> None:
    if target.exists() and stamp(target) == stamp(path):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.with_name(f"{target.name}.new.tmp")
    try:
        os.link(path, new)
    except FileNotFoundError:
        raise
    except OSError:
        new.write_bytes(path.read_bytes())
        os.utime(new, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    os.replace(new, target)
    new.unlink(missing_ok=True)  # replacing a name by another of the same file does nothing


@dataclass
class Upload:
    """Sends a growing folder to an S3 prefix; what S3 refuses stands in ``fault``, and is sent again at the next look."""

    folder: Path
    uri: str
    fault: JobFault | None = None
    _sent: dict[Path, tuple[int, int]] = field(default_factory=dict)

    def send(self) -> None:
        """Send what has changed since the last call."""
        self.fault = None
        paths = sorted(channels.files(self.folder), key=lambda path: (LAST in path.parts, path))
        for path in paths:
            if path.name.endswith(NOT_SENT):
                continue
            try:
                now = stamp(path)
                if self._sent.get(path) != now:
                    channels.upload(f"{self.uri}/{path.relative_to(self.folder)}", path.read_bytes())
                    self._sent[path] = now
            except FileNotFoundError:
                continue  # replaced meanwhile: the next look sees what there is
            except JobFault as fault:
                self.fault = fault
                return


def stamp(path: Path) -> tuple[int, int]:
    """What changes with a file's content: time of change (ns) and size."""
    status = path.stat()
    return status.st_mtime_ns, status.st_size
