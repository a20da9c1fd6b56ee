"""System metrics of a training job in the profiler's files: one JSON object a line, one file a minute and instance.

Format as the profiler writes it: ``system/incremental/<YYYYMMDDHH, UTC>/<epoch of the minute>.<host>.json``, lines of ``Type``, ``Name``,
``Dimension``, ``Value``, ``NodeId``, ``Timestamp``. All instances of a local job share this machine: the figures are the whole machine's.
"""

import contextlib
import functools
import json
import shutil
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

from opml.core import system
from opml.core.system import Sample

MINUTE = 60
QUERY = ("--query-gpu=utilization.gpu,memory.used,memory.total", "--format=csv,noheader,nounits")


def events(samples: list[Sample], moment: float, host: str) -> list[dict]:
    """The lines of one reading of :class:`opml.core.system.Sampler`, taken ``moment`` seconds after 1970."""
    keys = ("Type", "Name", "Dimension", "Value", "NodeId", "Timestamp")
    return [dict(zip(keys, (*_names(part, what), value, host, moment), strict=True)) for part, what, value in samples]


def _names(part: str, dimension: str) -> tuple[str, str, str]:
    """The profiler's type, name and dimension: parts that there are several of have dimensions, the others names only."""
    if part.startswith(("cpu", "gpu")):
        return part[:3], part, dimension
    return part, dimension, "Algorithm" if part == "network" else ""


def read_gpus() -> list[Sample]:
    """What nvidia-smi says of each GPU; nothing where there is none, or where it does not answer within 2 seconds."""
    if (program := _nvidia_smi()) is None:
        return []
    try:
        done = subprocess.run([program, *QUERY], capture_output=True, text=True, timeout=2, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return parse_gpus(done.stdout)


@functools.cache
def _nvidia_smi() -> str | None:
    return shutil.which("nvidia-smi")


def parse_gpus(text: str) -> list[Sample]:
    """One line a GPU: busy per cent, MiB used, MiB in all; a GPU that does not tell (``[N/A]``) is left out."""
    found = []
    for number, row in enumerate(line.split(", ") for line in text.strip().splitlines()):
        if all(cell.replace(".", "").isdigit() for cell in row):
            busy, used, whole = map(float, row)
            found += [(f"gpu{number}", "GPUUtilization", busy), (f"gpu{number}", "GPUMemoryUtilization", round(100 * used / whole, 2))]
    return found


def file_of(folder: Path, moment: float, host: str) -> Path:
    """The file that a sample of that moment belongs to."""
    hour = datetime.fromtimestamp(moment, UTC).strftime("%Y%m%d%H")
    return folder / "system" / "incremental" / hour / f"{int(moment // MINUTE * MINUTE):010d}.{host}.json"


class Sampler:
    """Samples this machine for the instances of one job until it is closed."""

    def __init__(self, folder: Path, hosts: tuple[str, ...], milliseconds: int):
        self._folder, self._hosts = folder, hosts
        self._machine = system.Sampler(gpus=read_gpus)
        self._watch = system.Watch(milliseconds / 1000, self._write, self._machine)
        self._watch.start()

    def close(self) -> None:
        """Take the last sample, into a file of the next minute: readers take the last file's stamp as the end of what there is."""
        self._watch.end()
        self._write(time.time(), self._machine.read(), later=MINUTE)

    def _write(self, moment: float, samples: list[Sample], later: float = 0.0) -> None:
        for host in self._hosts:
            lines = "".join(json.dumps(event) + "\n" for event in events(samples, moment, host))
            path = file_of(self._folder, moment + later, host)
            with contextlib.suppress(FileNotFoundError):  # the job's folder has gone: the server ends
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("a") as file:
                    file.write(lines)
