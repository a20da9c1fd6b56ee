"""Processes, run and weighed: wall-clock time, and the peak of the memory that they and their children hold together."""

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

SOON, EVERY = 0.1, 1.0  # seconds between two looks, of a short process and of a long one: each walks through the page tables, and
# five a second slowed down what is weighed by a tenth


class Weighed(NamedTuple):
    """What was measured; ``peak_mb`` in MB of 10^6 bytes, shared pages divided among those who share them (PSS)."""

    exit_code: int
    seconds: float
    peak_mb: int
    log: str


def run_weighed(command: Sequence[str], place: Path, environments: Sequence[dict[str, str]]) -> Weighed:
    """Run one command, once in each environment at the same time; the log is that of the first."""
    started, peak = time.perf_counter(), 0
    logs = [place / f"log{number}.txt" for number in range(len(environments))]
    files = [path.open("wb") for path in logs]
    running = [
        subprocess.Popen(command, cwd=place, env=env, stdout=file, stderr=subprocess.STDOUT)
        for env, file in zip(environments, files, strict=True)
    ]
    try:
        for process in running:
            while not _ends_within(process, min(EVERY, max(SOON, (time.perf_counter() - started) / 5))):
                peak = max(peak, sum(_memory(process.pid) for process in running))
        seconds = time.perf_counter() - started
    finally:
        for process, file in zip(running, files, strict=True):
            process.kill()
            process.wait()
            file.close()
    code = max((abs(process.returncode) for process in running), default=0)
    return Weighed(code, seconds, round(peak / 1e6), logs[0].read_text(errors="replace"))


def _ends_within(process: subprocess.Popen, seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _memory(pid: int) -> int:
    """Bytes of a process and all its children; 0 for one that has just ended."""
    total = 0
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for process in family:
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return total
