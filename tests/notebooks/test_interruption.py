"""A rehearsal that is interrupted or killed in the middle of a cell: what it says, what it records, and that nothing is left."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_notebook

KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
PARAMETERS = new_code_cell('target: str = "local"  # where\nrun_id: str = "first"  # who', metadata={"tags": ["parameters"]})
# Leaves a temporary folder, and is then busy in its third cell (papermill's own parameters cell is one of them).
CELLS = (
    "import os, pathlib, subprocess, sys, tempfile, time\nfolder = tempfile.mkdtemp()",
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
    "pathlib.Path(os.environ['READY']).touch()\ntime.sleep(600)",
)
REHEARSE = """
import pathlib, sys
from opml import cli, rehearsal
rehearsal.NOTEBOOKS = pathlib.Path(sys.argv[1])
sys.exit(cli.main(["rehearse", "--out", sys.argv[2]]))
"""


def eventually(condition, seconds=10.0):
    """Poll until the condition holds; the last value of it."""
    deadline = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return value


def ours(folder):
    """The live processes that have this test's mark, whoever started them."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("READY") == str(folder / "ready") and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess, OSError):
            continue
    return found


@pytest.fixture
def scratch():
    with tempfile.TemporaryDirectory(prefix="judge-") as folder:  # not tmp_path: it is too long for a socket
        yield Path(folder)


@pytest.fixture
def busy(tmp_path, scratch):
    for name in ("notebooks", "home"):
        (tmp_path / name).mkdir()
    cells = [PARAMETERS, *map(new_code_cell, CELLS)]
    nbformat.write(new_notebook(cells=cells, metadata=KERNEL), tmp_path / "notebooks/01_busy.ipynb")
    env = {**os.environ, "TMPDIR": str(scratch), "READY": str(tmp_path / "ready"), "XDG_STATE_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", REHEARSE, str(tmp_path / "notebooks"), str(tmp_path / "runs")]
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert eventually((tmp_path / "ready").exists, 60), process.communicate(timeout=1)
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_rehearsal_says_where_and_leaves_its_record_only(busy, tmp_path, scratch, number):
    os.killpg(busy.pid, number)
    _, said = busy.communicate(timeout=30)
    assert busy.returncode == 130
    assert said.splitlines()[-1] == "opml: interrupted in 01_busy, cell 4; the local AWS has ended and nothing is left"
    assert eventually(lambda: not ours(tmp_path)) and not list(scratch.iterdir())
    [outcome] = json.loads((tmp_path / "runs/latest/summary.json").read_text())["notebooks"]
    assert (outcome["error"], outcome["interrupted"]) == ("cell 4: interrupted", True)


def test_a_killed_rehearsal_leaves_no_process_and_no_temporary_file(busy, tmp_path, scratch):
    busy.kill()
    assert eventually(lambda: not ours(tmp_path)), ours(tmp_path)
    assert eventually(lambda: not list(scratch.iterdir()))
    assert json.loads((tmp_path / "runs/latest/summary.json").read_text())["notebooks"] == []
