"""The pure parts of what a training job is given: literal paths, requirements, spot, checkpoints."""

import math
from pathlib import Path

import pytest

from opml.localaws import checkpoints, job_folders, mounts, requirements, spot
from opml.localaws.channels import JobFault
from opml.localaws.contract import Instance


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("x = 1\nopen('/opt/ml/model/w')", 2),
        ("import os\nparser.add_argument('--m', default=os.environ.get('SM_MODEL_DIR', '/opt/ml/model'))", None),
        ("import os\nd = os.environ.get(\n    'SM_MODEL_DIR',\n    '/opt/ml/model')", None),
        ("parser.add_argument('--m', default='/opt/ml/model')", 1),
        ("# /opt/ml is named in a comment\n'''and so is /opt/ml here'''", None),
        ("print('no Python", None),
    ],
)
def test_literal_paths_are_found_in_the_source(tmp_path, source, line):
    (tmp_path / "train.py").write_text(source)
    assert mounts.literal_path(tmp_path) == (line and f"train.py:{line}")


@pytest.mark.parametrize("values", [{}, {"out": '"/opt/ml/model"'}])
def test_without_namespaces_a_script_that_names_the_folder_is_refused(tmp_path, monkeypatch, values):
    monkeypatch.setattr(mounts, "is_available", lambda: False)
    (tmp_path / "code").mkdir()
    instance = Instance("job", "algo-1", ("algo-1",), "local", tmp_path, {}, values, 1)
    if values:
        with pytest.raises(JobFault, match="the hyper-parameter out names /opt/ml"):
            job_folders.check_paths(instance)
    else:
        job_folders.check_paths(instance)


@pytest.mark.parametrize(
    ("line", "satisfied"),
    [("pytest", True), ("pytest>=1", True), ("pytest<1", False), ("nothing-like-it", False), ("-r other.txt", False),
     ("x; python_version < '3'", True), ("", True), ("# words", True), ("git+https://example.org/x", False)],
)  # fmt: skip
def test_requirements_are_compared_with_what_is_there(tmp_path, line, satisfied):
    (tmp_path / "requirements.txt").write_text(line + "\n")
    assert (requirements.missing(tmp_path / "requirements.txt") == []) is satisfied


def test_interruptions_come_in_turn_and_only_to_spot():
    request = {"EnableManagedSpotTraining": True, "Environment": {spot.INTERRUPT: "5, 3"}, "StoppingCondition": {"MaxWaitTimeInSeconds": 9}}
    one = spot.Spot(request)
    assert [one.next_interruption() for _ in range(3)] == [5.0, 3.0, math.inf]
    assert spot.Spot({**request, "EnableManagedSpotTraining": False}).next_interruption() == math.inf


def test_a_line_of_the_log_interrupts_once_and_only_spot():
    request = {"EnableManagedSpotTraining": True, "Environment": {spot.AT_LINE: "epoch 3/"}}
    one, other = spot.Spot(request), spot.Spot({**request, "EnableManagedSpotTraining": False})
    assert [one.is_interrupted_by(lines) for lines in (["epoch 2/5"], ["x", "epoch 3/5: loss"], ["epoch 3/5"])] == [False, True, False]
    assert not other.is_interrupted_by(["epoch 3/5"])


def test_spot_bills_a_share_of_what_was_trained():
    one, other = spot.Spot({"EnableManagedSpotTraining": True}), spot.Spot({})
    one.trained = other.trained = 100.0
    assert (one.billable(120), other.billable(120)) == (30, 120)


def test_a_variable_that_is_not_a_number_is_refused():
    request = {"EnableManagedSpotTraining": True, "Environment": {spot.INTERRUPT: "soon"}}
    request["StoppingCondition"] = {"MaxRuntimeInSeconds": 1, "MaxWaitTimeInSeconds": 1}
    assert "is 'soon': give seconds" in spot.fault(request)


def test_the_checkpoint_folder_lies_in_the_jobs_tree():
    assert checkpoints.folder_in(Path("base"), {}) == Path("base/checkpoints")
    assert checkpoints.folder_in(Path("base"), {"LocalPath": "/opt/ml/x/y"}) == Path("base/x/y")
    assert checkpoints.fault({"LocalPath": "/opt/ml"}) and checkpoints.fault({"LocalPath": "/opt/ml/../x"}) and not checkpoints.fault({})
