"""``python -m opml doctor``: what of this machine and of AWS's calendar stands in the way."""

import argparse
import re
import shutil
import sys
from collections.abc import Iterator
from datetime import date
from importlib import metadata

from opml.images import IMAGES
from opml.staging import REPOSITORY

SDK_V2_ENDS = date(2027, 7, 6)
NEEDED_GB = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``opml doctor`` has no flags."""


def run(_args: argparse.Namespace) -> int:
    """Print one line a check; exit status 1 if one is bad."""
    bad = 0
    for verdict, text in [*python(), *packages(), *disk(), *calendar(date.today())]:
        print(f"{verdict:<5} {text}")
        bad += verdict == "BAD"
    return 1 if bad else 0


def python() -> Iterator[tuple[str, str]]:
    """The interpreter: smdebug works on 3.11 and 3.12."""
    version = ".".join(map(str, sys.version_info[:3]))
    yield ("ok" if (3, 11) <= sys.version_info[:2] <= (3, 12) else "BAD"), f"Python {version} (3.11 or 3.12 is needed)"


def packages() -> Iterator[tuple[str, str]]:
    """Each exact pin of pyproject.toml against what is installed."""
    pins = re.findall(r'^ {4}"([\w-]+)(?:\[[\w,]+\])?==([\w.]+)"', (REPOSITORY / "pyproject.toml").read_text(), re.M)
    for name, wanted in pins:
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield "BAD", f"{name} is not installed ({wanted} is pinned): make rehearse sets it up"
            continue
        yield ("ok" if found.partition("+")[0] == wanted else "BAD"), f"{name} {found} ({wanted} is pinned)"


def disk() -> Iterator[tuple[str, str]]:
    """Room for data, jobs and models."""
    free = shutil.disk_usage(REPOSITORY).free / 1e9
    yield ("ok" if free > NEEDED_GB else "BAD"), f"{free:.1f} GB of disk are free ({NEEDED_GB:.0f} GB are enough for a rehearsal)"


def calendar(today: date) -> Iterator[tuple[str, str]]:
    """What AWS still patches and supports today."""
    for image in IMAGES:
        over = date.fromisoformat(image.end_of_patch) < today
        yield ("warn" if over else "ok"), f"AWS patches the PyTorch {image.version} {image.purpose} image until {image.end_of_patch}"
    yield ("warn" if today >= SDK_V2_ENDS else "ok"), f"version 2 of the SageMaker SDK is supported until {SDK_V2_ENDS}"
    yield "note", "SageMaker Debugger is closed to accounts that did not use it before 2026-07-30"
