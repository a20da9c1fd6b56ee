"""How the tests run the two doors: as processes, the way a container or an instance does."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
QUICK = {"weights": "none", "image_size": 32, "epochs": 2, "batch_size": 6, "learning_rate": 0.002}


def flags(**settings: object) -> list[str]:
    return [word for name in sorted(settings) for word in (f"--{name}", str(settings[name]))]


def start(door: str, words: list[str], place: Path, before: str = "", **env: str) -> subprocess.Popen:
    """The door as a process in an empty folder; ``before`` is Python to run first in its interpreter."""
    place.mkdir(parents=True, exist_ok=True)
    run = f"sys.argv[0] = {str(ROOT / door)!r}\nrunpy.run_path(sys.argv[0], run_name='__main__')"
    code = f"import runpy, sys\nsys.path.insert(0, {str(ROOT)!r})\n{before}\n{run}"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SM_")}
    return subprocess.Popen(
        [sys.executable, "-c", code, *words],
        cwd=place,
        env=clean | {"OMP_NUM_THREADS": "1"} | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen) -> str:
    """Its log; it must have ended well."""
    log, _ = process.communicate(timeout=120)
    assert process.returncode == 0, log
    return log
