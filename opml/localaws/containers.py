"""What a container image would have brought along: here the script runs with this Python, which may be years younger than its image.

Pure functions of the image's name and of a log's lines.
"""

import platform
import re
from collections.abc import Iterable
from importlib import metadata

# The registry's names are pytorch-training and pytorch-inference, sagemaker-pytorch before 1.2.
IMAGE = re.compile(r"pytorch[^/:]*:(?P<torch>\d+\.\d+)[^-]*-[a-z]+\d*-py(?P<python>\d+)")
SAFE_LOAD = (2, 6)  # from this version on, torch.load reads weights only, unless told otherwise
# What torch.hub prints before it downloads; the folder is that of TORCH_HOME.
DOWNLOAD = re.compile(r'^Downloading: "(?P<url>https?://\S+)" to (?P<file>\S+)$')
UNREACHED = ("URLError", "HTTPError", "ConnectionResetError", "TimeoutError", "RemoteDisconnected", "IncompleteRead")


def environment(image: str) -> dict[str, str]:
    """Variables that make today's PyTorch do what the image's would: models pickled whole could be loaded before 2.6."""
    asked = IMAGE.search(image or "")
    if asked is None or _numbers(asked["torch"]) >= SAFE_LOAD:
        return {}
    return {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}


def log_lines(image: str) -> list[str]:
    """What a log says about the image: which versions were asked for, which ones are here."""
    asked = IMAGE.search(image or "")
    if asked is None:
        return []
    python = f" and Python {asked['python'][0]}.{asked['python'][1:]}" if len(asked["python"]) > 1 else ""
    here = f"PyTorch {metadata.version('torch')} and Python {platform.python_version()}"
    return [f"local AWS: the image has PyTorch {asked['torch']}{python}; this runs with {here}"]


def missing_weights(lines: Iterable[str]) -> str | None:
    """What to do, if a log ends because pretrained weights could not be downloaded; else None."""
    started, failed = None, False
    for line in lines:
        started = DOWNLOAD.match(line.strip()) or started
        failed = failed or (started is not None and any(name in line for name in UNREACHED))
    if not failed:
        return None
    return (
        f"local AWS: pretrained weights are not on this machine, and it cannot reach their address. Save {started['url']}"
        f" as {started['file']}, or set TORCH_HOME before: python -m opml local start"
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
