"""The rooms of docs/architecture.md: who may call whom. The contracts themselves stand in pyproject.toml."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = {
    "house": {"__init__", "__main__", "cli", "errors", "machine"},
    "gate": {"aws"},
    "commands": {"commands"},
    "control": {
        "costs", "ec2", "engine", "estimators", "facts", "functions", "images", "jobs", "kinds", "normalise", "operators", "plots",
        "policies", "principals", "record", "rehearsal", "resources", "rules", "scaling", "security", "sins", "staging", "verdicts",
    },
    "cargo": {"core"},
    "basement": {"localaws"},
}  # fmt: skip
REFUSE = """import os, sys
os.environ["AWS_DEFAULT_REGION"] = "us-east-1"  # as in every Lambda function
for name in {names!r}:
    sys.modules[name] = None
import {module}
"""


def imports_without(module, *names):
    """Import a module in a fresh interpreter in which importing any of the names raises."""
    return subprocess.run([sys.executable, "-c", REFUSE.format(names=names, module=module)], cwd=ROOT, capture_output=True, text=True)


def test_every_module_has_a_declared_room():
    found = {path.stem for path in (ROOT / "opml").glob("*.py")} | {path.parent.name for path in (ROOT / "opml").glob("*/__init__.py")}
    assert found == set().union(*ROOMS.values())


def test_the_corridors_are_kept():
    done = subprocess.run([Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_function_needs_neither_opml_nor_third_parties():
    done = imports_without("lambda_function", "opml", "requests", "torch", "sagemaker", "numpy", "PIL")
    assert done.returncode == 0, done.stderr


def test_the_package_itself_imports_nothing():
    done = subprocess.run(
        [sys.executable, "-c", "import sys; before = set(sys.modules); import opml; print(set(sys.modules) - before)"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.strip() == "{'opml'}"


@pytest.mark.parametrize("module", ["opml.core.config", "opml.core.metrics"])
def test_settings_and_metrics_need_the_standard_library_only(module):
    assert imports_without(module, "torch", "numpy", "PIL", "boto3", "sagemaker").returncode == 0


def test_the_page_of_the_architecture_names_every_module():
    page = set(re.findall(r"`(?:opml/|core/)?([\w/]+?)(?:\.py|/)?`", (ROOT / "docs" / "architecture.md").read_text()))
    modules = {path.stem for folder in ("opml", "opml/localaws") for path in (ROOT / folder).glob("*.py")} - {"__init__"}
    assert modules - page == set()
