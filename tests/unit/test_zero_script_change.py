"""Scripts that know nothing of smdebug: what hooks them, and what keeps them training when it cannot."""

import importlib.util
import json
import os
import subprocess
import sys

import numpy
import pytest

from opml.localaws.contract import JOB_PATH

SCRIPT = """
import torch, torch.nn as nn
{first}
net, criterion = nn.Linear(4, 2), nn.CrossEntropyLoss()
{then}
nn.Identity()(torch.ones(1))
for _ in range(3):
    criterion(net(torch.ones(2, 4)), torch.tensor([0, 1])).backward()
print("trained")
"""
NAMES = {"CrossEntropyLoss_output_0", "gradient/Linear_weight", "gradient/Linear_bias"}
OWN_HOOK = "import smdebug.pytorch as smd; hook = smd.Hook.create_from_json_file()"


@pytest.fixture
def job(tmp_path):
    """A hook configuration and a folder for modules that go before the installed ones."""
    (tmp_path / "first").mkdir()
    content = {"LocalPath": str(tmp_path / "tensors"), "CollectionConfigurations": [{"CollectionName": "gradients"}]}
    (tmp_path / "hook.json").write_text(json.dumps(content))
    return tmp_path


def run(job, first="", then=""):
    """Run the script as a job does: the lines that it prints; it must end well."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(job / "first"), str(JOB_PATH)]), "OPML_ZERO_SCRIPT_CHANGE": "1"}
    env |= {"SMDEBUG_CONFIG_FILE_PATH": str(job / "hook.json"), "SMDEBUG_LOG_LEVEL": "error", "TRAINING_JOB_NAME": "job"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(first=first, then=then)], env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if line]


def saved(job):
    return sorted(int(path.name) for path in job.glob("tensors/events/*"))


def names(job):
    """The tensors of the first saved step, each of them saved once."""
    index = json.loads(next(job.glob("tensors/index/*/*.json")).read_text())
    found = [entry["tensorname"] for entry in index["tensor_payload"]]
    assert len(found) == len(set(found))
    return set(found)


def test_the_model_and_the_loss_register_themselves(job):
    assert run(job) == ["trained"]
    assert saved(job) == [0] and names(job) == NAMES


def test_what_a_script_with_a_hook_of_its_own_does_not_register_is_registered(job):
    assert run(job, OWN_HOOK) == ["trained"]
    assert names(job) == NAMES


def test_what_a_script_registers_itself_is_not_registered_again(job):
    assert run(job, OWN_HOOK, "hook.register_hook(net); hook.register_loss(criterion)") == ["trained"]
    assert names(job) == NAMES


def test_a_stale_claim_is_named_and_the_script_trains_on(job):
    (job / "tensors").mkdir()
    (job / "tensors" / "claim.smd").touch()
    line, last = run(job)
    assert "claim.smd was left by a process that was killed" in line and "remove it" in line and last == "trained"


def test_a_broken_smdebug_is_named_and_the_script_trains_on(job):
    (job / "first" / "smdebug.py").write_text("raise ImportError('protobuf is too new')")
    line, last = run(job)
    assert line.startswith("local AWS: Debugger saves no tensors") and "protobuf is too new" in line and last == "trained"


@pytest.fixture
def hooking(job, monkeypatch):
    """The module that registers the hook, as it is in the job."""
    monkeypatch.setenv("SMDEBUG_CONFIG_FILE_PATH", str(job / "hook.json"))
    spec = importlib.util.spec_from_file_location("zero_script_change", JOB_PATH / "zero_script_change.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_numpy_that_is_too_new_is_named_with_the_pin(hooking, monkeypatch):
    assert hooking.obstacle() is None
    monkeypatch.setattr(numpy, "ndarray", object)
    assert "cannot write with numpy" in hooking.obstacle() and "numpy<2.3" in hooking.obstacle()


def test_a_missing_smdebug_is_named_with_what_to_add(hooking, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "smdebug is not installed: add smdebug==1.0.34" in hooking.obstacle()
