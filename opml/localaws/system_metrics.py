"""System metrics of a training job in the profiler's files: one JSON object a line, one file a minute and instance.

Format as the profiler writes it: ``system/incremental/<YYYYMMDDHH, UTC>/<epoch of the minute>.<host>.json``, lines of ``Type``, ``Name``,
``Dimension``, ``Value``, ``NodeId``, ``Timestamp``. All instances of a local job share this machine: the figures are the whole machine's.
"""

import contextlib
import functools
import json
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

MINUTE = 60
QUERY = ("--query-gpu=utilization.gpu,memory.used,memory.total", "--format=csv,noheader,nounits")


@dataclass(frozen=True)
class Counters:
    """The machine's counters at one moment; what is reported is the difference of two."""

    moment: float  # seconds since the epoch
    cores: tuple  # psutil's times of each core
    memory: float  # per cent used, at this moment
    disk: tuple  # operations, bytes read, bytes written
    network: tuple  # bytes received, bytes sent
    gpus: tuple = ()  # (per cent busy, per cent of memory used) of each GPU, at this moment

    @classmethod
    def now(cls) -> "Counters":
        """Read the counters; a machine without disks or network cards to count has zeros."""
        disk, network = psutil.disk_io_counters(), psutil.net_io_counters()
        return cls(
            moment=time.time(), cores=tuple(psutil.cpu_times(percpu=True)), memory=psutil.virtual_memory().percent,
            disk=(disk.read_count + disk.write_count, disk.read_bytes, disk.write_bytes) if disk else (0, 0, 0),
            network=(network.bytes_recv, network.bytes_sent) if network else (0, 0), gpus=read_gpus(),
        )  # fmt: skip


def events(before: Counters, after: Counters, host: str) -> list[dict]:
    """The lines of one sample, dated ``after``; rates are per second."""
    seconds = max(after.moment - before.moment, 1e-6)
    found = [("memory", "MemoryUsedPercent", "", after.memory)]
    for number, (old, new) in enumerate(zip(before.cores, after.cores, strict=False)):
        used, waited = _shares(old, new)
        found += [("cpu", f"cpu{number}", "CPUUtilization", used), ("cpu", f"cpu{number}", "I/OWaitPercentage", waited)]
    for number, (busy, memory) in enumerate(after.gpus):
        found += [("gpu", f"gpu{number}", "GPUUtilization", busy), ("gpu", f"gpu{number}", "GPUMemoryUtilization", memory)]
    rates = [(new - old) / seconds for old, new in zip((*before.disk, *before.network), (*after.disk, *after.network), strict=True)]
    for name, rate in zip(("IOPS", "ReadThroughputInBytesPerSecond", "WriteThroughputInBytesPerSecond"), rates[:3], strict=True):
        found.append(("i/o", name, "", rate))
    for name, rate in zip(("ReceiveBytesPerSecond", "TransmitBytesPerSecond"), rates[3:], strict=True):
        found.append(("network", name, "Algorithm", rate))
    return [
        {"Type": kind, "Name": name, "Dimension": dimension, "Value": round(value, 2), "NodeId": host, "Timestamp": after.moment}
        for kind, name, dimension, value in found
    ]


def read_gpus() -> tuple[tuple[float, float], ...]:
    """What nvidia-smi says of each GPU; nothing where there is none, or where it does not answer within 2 seconds."""
    if (program := _nvidia_smi()) is None:
        return ()
    try:
        done = subprocess.run([program, *QUERY], capture_output=True, text=True, timeout=2, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return parse_gpus(done.stdout)


@functools.cache
def _nvidia_smi() -> str | None:
    return shutil.which("nvidia-smi")


def parse_gpus(text: str) -> tuple[tuple[float, float], ...]:
    """One line a GPU: busy per cent, MiB used, MiB in all; a GPU that does not tell (``[N/A]``) is left out."""
    rows = [line.split(", ") for line in text.strip().splitlines()]
    numbers = [[float(cell) for cell in row] for row in rows if all(cell.replace(".", "").isdigit() for cell in row)]
    return tuple((busy, 100 * used / whole) for busy, used, whole in numbers)


def _shares(old, new) -> tuple[float, float]:
    """Per cent of a core's time in which it worked, and in which it waited for a disk."""
    spent = {name: getattr(new, name) - getattr(old, name) for name in new._fields if name not in ("guest", "guest_nice")}
    whole = sum(spent.values())
    if whole <= 0:  # the counters have ticks of 10 ms
        return 0.0, 0.0
    waited = spent.get("iowait", 0.0)
    return 100 * max(0.0, whole - spent["idle"] - waited) / whole, 100 * waited / whole


def file_of(folder: Path, moment: float, host: str) -> Path:
    """The file that a sample of that moment belongs to."""
    hour = datetime.fromtimestamp(moment, UTC).strftime("%Y%m%d%H")
    return folder / "system" / "incremental" / hour / f"{int(moment // MINUTE * MINUTE):010d}.{host}.json"


class Sampler:
    """Samples this machine for the instances of one job until it is closed."""

    def __init__(self, folder: Path, hosts: tuple[str, ...], milliseconds: int):
        self._folder, self._hosts, self._seconds = folder, hosts, milliseconds / 1000
        self._before, self._closing = Counters.now(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="system metrics")
        self._thread.start()

    def close(self) -> None:
        """Take the last sample, into a file of the next minute: readers take the last file's stamp as the end of what there is."""
        self._closing.set()
        self._thread.join()
        self._sample(MINUTE)

    def _run(self) -> None:
        while not self._closing.wait(self._seconds):
            self._sample()

    def _sample(self, later: float = 0.0) -> None:
        after = Counters.now()
        for host in self._hosts:
            lines = "".join(json.dumps(event) + "\n" for event in events(self._before, after, host))
            path = file_of(self._folder, after.moment + later, host)
            with contextlib.suppress(FileNotFoundError):  # the job's folder has gone: the server ends
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("a") as file:
                    file.write(lines)
        self._before = after
