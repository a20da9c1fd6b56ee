"""What Debugger and profiler leave, on its way to S3 while the job runs: instances' folders -> the job's folder -> the bucket."""

import contextlib
import os
from pathlib import Path

from opml.localaws import channels
from opml.localaws.sync import Sync, stamp

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


class Upload:
    """Sends a growing folder to an S3 prefix; what S3 refuses stands in ``fault``, and is sent again at the next look."""

    def __init__(self, folder: Path, uri: str):
        self.folder, self.fault = folder, None
        self._sync = Sync(uri)

    def send(self) -> None:
        """Send what has changed since the last call."""
        paths = sorted(channels.files(self.folder), key=lambda path: (LAST in path.parts, path))
        self.fault = self._sync.send({str(path.relative_to(self.folder)): path for path in paths if not path.name.endswith(NOT_SENT)})
