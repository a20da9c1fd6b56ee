"""A job's ``requirements.txt``: nothing can be installed offline, but what is asked for may be there already."""

from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement


def missing(file: Path) -> list[str]:
    """The lines of a requirements file that this Python environment does not satisfy; options and URLs count as such."""
    lines = [line.split(" #")[0].strip() for line in file.read_text(errors="replace").splitlines()]
    return [line for line in lines if line and not line.startswith("#") and not _is_satisfied(line)]


def _is_satisfied(line: str) -> bool:
    try:
        wanted = Requirement(line)
    except InvalidRequirement:
        return False
    if wanted.marker is not None and not wanted.marker.evaluate():
        return True
    try:
        return wanted.url is None and wanted.specifier.contains(metadata.version(wanted.name), prereleases=True)
    except metadata.PackageNotFoundError:
        return False


def log_lines(code: Path) -> list[str]:
    """What a job's log says about its ``requirements.txt``."""
    file = code / "requirements.txt"
    if not file.is_file():
        return []
    if absent := missing(file):
        return [f"local AWS: requirements.txt cannot be installed offline; not in this Python environment: {', '.join(absent)}"]
    return ["local AWS: requirements.txt is satisfied already; nothing is installed"]
