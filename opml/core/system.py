"""Samples of this machine: cores, memory, disk, network, GPUs, by the names of SageMaker's profiler.

PyTorch is loaded by the sampling of GPUs alone, and only where it is asked for: the local AWS samples too, without PyTorch.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

Sample = tuple[str, str, float]  # part, dimension, value
PROC = Path("/proc")


class Sampler:
    """Reads the machine's counters; rates are those since the last reading. psutil where it is there, else Linux's /proc.

    Parameters
    ----------
    gpus : what is to be said of the GPUs at each reading.
    """

    def __init__(self, proc: Path = PROC, use_psutil: bool = True, gpus: Callable[[], list[Sample]] = list):
        self.proc, self.psutil, self.gpus = proc, _psutil() if use_psutil else None, gpus
        self._before: dict[str, tuple[float, ...]] = {}
        self.read()  # a rate needs two readings

    def read(self) -> list[Sample]:
        """All that can be had here; what this machine does not tell is left out."""
        return [*self._cores(), *self._memory(), *self._rates(), *self.gpus()]

    def _cores(self) -> list[Sample]:
        found = []
        for core, (busy, waiting, total) in self._core_times().items():
            before = self._before.get(core)
            self._before[core] = (busy, waiting, total)
            if before and total > before[2]:
                part = 100 / (total - before[2])
                found.append((core, "CPUUtilization", round((busy - before[0]) * part, 2)))
                found.append((core, "I/OWaitPercentage", round(max(0.0, waiting - before[1]) * part, 2)))
        return found

    def _core_times(self) -> dict[str, tuple[float, float, float]]:
        """For each core the time that it was busy, waited for I/O, and all of it."""
        if self.psutil:
            times = {f"cpu{number}": each for number, each in enumerate(self.psutil.cpu_times(percpu=True))}
            idle = {core: each.idle + getattr(each, "iowait", 0.0) for core, each in times.items()}
            # Linux counts a guest's time also as the user's.
            all_of = {core: sum(each) - getattr(each, "guest", 0.0) - getattr(each, "guest_nice", 0.0) for core, each in times.items()}
            return {c: (all_of[c] - idle[c], getattr(times[c], "iowait", 0.0), all_of[c]) for c in times}
        found = {}
        for line in _lines(self.proc / "stat"):
            name, *numbers = line.split()
            if name.startswith("cpu") and name != "cpu":
                ticks = [float(number) for number in numbers[:8]]  # the rest is a guest's time, counted in the first two
                found[name] = (sum(ticks) - ticks[3] - ticks[4], ticks[4], sum(ticks))
        return found

    def _memory(self) -> list[Sample]:
        if self.psutil:
            return [("memory", "MemoryUsedPercent", float(self.psutil.virtual_memory().percent))]
        sizes = {line.split(":")[0]: float(line.split()[1]) for line in _lines(self.proc / "meminfo") if len(line.split()) > 1}
        if "MemAvailable" not in sizes:
            return []
        return [("memory", "MemoryUsedPercent", round(100 * (1 - sizes["MemAvailable"] / sizes["MemTotal"]), 2))]

    def _rates(self) -> list[Sample]:
        now, found = time.monotonic(), []
        for kind, dimension, total in self._totals():
            before = self._before.get(dimension)
            self._before[dimension] = (now, total)
            if before and now > before[0]:
                found.append((kind, dimension, round(max(0.0, total - before[1]) / (now - before[0]), 1)))
        return found

    def _totals(self) -> list[Sample]:
        """Bytes since the machine started."""
        if not self.psutil:
            return []
        disk, network = self.psutil.disk_io_counters(), self.psutil.net_io_counters()
        found = []
        if disk:
            found += [
                ("i/o", "ReadThroughputInBytesPerSecond", disk.read_bytes),
                ("i/o", "WriteThroughputInBytesPerSecond", disk.write_bytes),
            ]
            found.append(("i/o", "IOPS", disk.read_count + disk.write_count))
        if network:
            found += [("network", "ReceiveBytesPerSecond", network.bytes_recv), ("network", "TransmitBytesPerSecond", network.bytes_sent)]
        return found


def _psutil():
    try:
        import psutil
    except ImportError:
        return None
    return psutil


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:  # not Linux
        return []


def gpus() -> list[Sample]:
    """Memory and use of this process's own GPU (torchrun's LOCAL_RANK): asked about another, PyTorch would open a context on it."""
    import torch

    if not torch.cuda.is_available():
        return []
    number = int(os.environ.get("LOCAL_RANK", 0))
    asked = {"GPUMemoryUtilization": lambda: _memory_used(*torch.cuda.mem_get_info(number))}
    asked["GPUUtilization"] = lambda: float(torch.cuda.utilization(number))
    found = []
    for dimension, ask in asked.items():
        try:
            found.append((f"gpu{number}", dimension, ask()))
        except _refusals():  # it is left out this time; rules about what was never sampled are not applicable
            continue
    return found


def _memory_used(free: int, total: int) -> float:
    return round(100 * (1 - free / total), 2)


def _refusals() -> tuple[type[Exception], ...]:
    """What is raised where a GPU cannot be asked: no nvidia-ml-py, no driver, or an error of the driver's library (NVML) itself."""
    try:
        from pynvml import NVMLError
    except ImportError:
        return ImportError, RuntimeError
    return ImportError, RuntimeError, NVMLError


class Watch(threading.Thread):
    """Hands a reading to ``take(time, samples)`` every ``seconds``, until it is told to end.

    Parameters
    ----------
    sampler : what reads; one that asks PyTorch of this process's GPU, if none is given.
    """

    def __init__(self, seconds: float, take: Callable[[float, list[Sample]], None], sampler: Sampler | None = None):
        super().__init__(daemon=True, name="system-samples")
        self.seconds, self.take, self.sampler, self._over = seconds, take, sampler, threading.Event()

    def run(self) -> None:
        sampler = self.sampler or Sampler(gpus=gpus)
        while not self._over.wait(self.seconds):
            self.take(time.time(), sampler.read())

    def end(self) -> None:
        """End, and wait for it."""
        self._over.set()
        if self.is_alive():
            self.join()


def cores() -> int:
    """The processor cores of this process: those it may use, divided by torchrun's processes on this machine."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, usable // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
