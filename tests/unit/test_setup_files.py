"""What sets the project up says the same thing everywhere."""

import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_conda_environment_has_the_pins_of_pyproject():
    listed = re.findall(r'^ {6}- "(.*)"$', (ROOT / "environment.yml").read_text(), re.M)
    assert listed == PROJECT["dependencies"]


def test_the_constraints_agree_with_the_pins():
    exact = dict(re.findall(r"^([\w.-]+)==([\w.]+)$", (ROOT / ".ci/constraints.txt").read_text(), re.M))
    pinned = [re.fullmatch(r"([\w-]+)(?:\[.*\])?==([\w.]+)", text) for text in PROJECT["dependencies"]]
    wrong = [m[0] for m in pinned if m and exact.get(m[1], m[2]) != m[2]]
    assert not wrong


def test_there_is_no_setup_py():  # the torchrun launcher of SageMaker refuses packages (facts: container contract)
    assert not (ROOT / "setup.py").exists()


SLOW_PYTHON = """#!/bin/sh
case "$*" in
    "-m venv --clear .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python; until [ -f go ]; do sleep 0.05; done ;;
    *"-e .[dev]") echo once >>installed ;;
    "-m pip"*) ;;
    *) exec {python} "$@" ;;
esac
"""


def set_up(folder: Path, python: Path) -> subprocess.Popen:
    """The set-up of a copy of the project, by this interpreter."""
    for name in (".ci/setup", ".ci/constraints.txt", "pyproject.toml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((ROOT / name).read_bytes())
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(["bash", folder / ".ci/setup"], env={**os.environ, "PYTHON": str(python)}, start_new_session=True, **streams)


def slow_python(folder: Path) -> Path:
    """An interpreter that installs nothing, and makes an environment only when there is a file ``go``."""
    python = folder / "python"
    python.write_text(SLOW_PYTHON.format(python=sys.executable))
    python.chmod(0o755)
    return python


def test_an_interrupted_set_up_says_so_and_is_not_taken_for_done(tmp_path):
    process = set_up(tmp_path / "repo", slow_python(tmp_path))
    assert process.stderr.readline().startswith("Setting up .venv")
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=60)[1] == "Interrupted. Run the command again to set up from the start.\n"
    assert process.returncode == 130 and not (tmp_path / "repo/.venv/.installed").exists()


def test_a_second_set_up_waits_for_the_first_and_installs_nothing(tmp_path):
    python = slow_python(tmp_path)
    first = set_up(tmp_path / "repo", python)
    assert first.stderr.readline().startswith("Setting up .venv"), "it has the lock"
    second = set_up(tmp_path / "repo", python)
    assert second.stderr.readline() == "Another set-up of this folder is under way: waiting for it.\n"
    (tmp_path / "repo/go").touch()
    assert (first.wait(60), second.wait(60)) == (0, 0)
    assert (tmp_path / "repo/installed").read_text() == "once\n"


def test_a_python_that_cannot_work_gets_one_sentence(tmp_path):
    python = tmp_path / "python3.9"
    python.write_text("#!/bin/sh\nif [ $1 = --version ]; then echo Python 3.9.1; else exit 1; fi\n")
    python.chmod(0o755)
    done = set_up(tmp_path / "repo", python)
    said = done.communicate()[1]
    assert done.returncode == 2
    assert said.startswith("opml needs Python 3.11") and "Python 3.9.1" in said and said.count("\n") == 1


def test_ci_runs_the_command_of_the_readme():
    assert "exec make test" in (ROOT / ".ci/run").read_text()
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_every_package_and_every_data_file_is_installed():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = sorted(path.parent for path in (ROOT / "opml").rglob("__init__.py"))
    data = [path for folder in folders for path in folder.iterdir() if path.is_file() and path.suffix not in (".py", ".pyc")]
    data += [path for path in (ROOT / "opml").rglob("*.py") if path.parent not in folders]  # no module: a file that jobs find on their path
    assert setuptools["packages"] == [".".join(folder.relative_to(ROOT).parts) for folder in folders]
    listed = [ROOT.joinpath(*package.split(".")) / name for package, names in setuptools["package-data"].items() for name in names]
    assert sorted(data) == sorted(listed)


def test_the_module_for_machines_without_a_compiler_samples_as_the_real_one():
    code = (
        "import pyinstrument_cext, pyinstrument, time; from pyinstrument import Profiler\n"
        "def slow():\n    until = time.perf_counter() + 0.2\n    while time.perf_counter() < until: sorted(range(50))\n"
        "p = Profiler(); p.start(); slow(); p.stop(); print(pyinstrument_cext.__file__); print(p.output_text())"
    )
    ours = ROOT / ".ci" / "pyinstrument_cext"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ours)}, capture_output=True, text=True)
    where, *said = done.stdout.splitlines()
    assert where.startswith(str(ours)) and any("slow" in line for line in said), done.stderr
