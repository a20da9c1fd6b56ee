"""Reading what smdebug saved: the hook runs in a process of its own, since smdebug keeps its state for the life of a process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from opml.core.records import EVAL, TRAIN
from opml.core.rules import evaluate
from opml.core.sources import SmdebugSource, read_smdebug

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys, torch, smdebug.pytorch as smd
hook = smd.get_hook(create_if_not_exists=True)
net, loss = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)), torch.nn.CrossEntropyLoss()
hook.register_module(net)
hook.register_loss(loss)
for epoch in range(2):
    hook.set_mode(smd.modes.TRAIN)
    for step in range(4):
        net.zero_grad()
        loss(net(torch.ones(2, 3)), torch.tensor([0, 1])).backward()
    hook.set_mode(smd.modes.EVAL)
    loss(net(torch.ones(2, 3)), torch.tensor([0, 1]))
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder of tensors as smdebug writes it: losses at each step, gradients at every second, weights reduced."""
    place = tmp_path_factory.mktemp("smdebug")
    each = {"train.save_interval": "1", "eval.save_interval": "1"}
    reduced = {"include_regex": ".*weight", "save_interval": "2", "reductions": "variance,abs_mean"}
    collections = {"losses": each, "gradients": {"save_interval": "2"}, "weights": reduced}
    named = [{"CollectionName": name, "CollectionParameters": parameters} for name, parameters in collections.items()]
    (place / "hook.json").write_text(json.dumps({"LocalPath": str(place / "tensors"), "CollectionConfigurations": named}))
    env = {**os.environ, "SMDEBUG_CONFIG_FILE_PATH": str(place / "hook.json"), "SMDEBUG_LOG_LEVEL": "error", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, env=env, check=True, timeout=120)
    return place / "tensors"


def test_losses_come_with_their_mode_and_both_step_numbers(saved):
    record = read_smdebug(saved)
    assert record.finished and record.collections["losses"] == ["CrossEntropyLoss_output_0"]
    points = record.points("CrossEntropyLoss_output_0")
    assert [(p.step, p.mode, p.mode_step) for p in points if p.mode == EVAL] == [(4, EVAL, 0), (9, EVAL, 1)]
    assert [p.mode_step for p in points if p.mode == TRAIN] == list(range(8))
    assert all(0.1 < p.value < 5 for p in points)


def test_values_and_their_summaries_are_read_from_the_event_files(saved):
    record = read_smdebug(saved)
    name = record.names("gradient/.*2.bias")[0]
    value = record.value(name, 0)
    assert value.shape == (2,) and record.summary(name, 0).abs_mean == pytest.approx(np.abs(value).mean())


def test_an_empty_folder_is_an_empty_record_that_no_rule_calls_healthy(tmp_path):
    record = SmdebugSource(tmp_path).update()
    assert evaluate("VanishingGradient", record).status == "InProgress"
    (tmp_path / "training_job_end.ts").touch()
    verdict = evaluate("VanishingGradient", SmdebugSource(tmp_path).update())
    assert (verdict.status, verdict.details) == ("NotApplicable", "no tensors of the collection gradients were saved")


def test_a_growing_folder_is_read_on_from_where_it_was(saved, tmp_path):
    source, index = SmdebugSource(tmp_path), tmp_path / "index" / "000000000"
    index.mkdir(parents=True)
    (tmp_path / "events").symlink_to(saved / "events")
    files = sorted((saved / "index" / "000000000").iterdir())
    (index / files[0].name).write_bytes(files[0].read_bytes())
    (index / files[1].name).write_bytes(files[1].read_bytes()[:50])  # being written
    assert source.update().steps() == [0]
    (index / files[1].name).write_bytes(files[1].read_bytes())
    assert source.update().steps() == [0, 1]


def test_reductions_serve_where_raw_tensors_were_not_saved(saved):
    record = read_smdebug(saved)
    reduced = [record.summary(name, 0) for name in record.names("weight$") if not name.startswith("gradient/")]
    assert [(s.abs_mean > 0, s.std > 0, s.size) for s in reduced] == [(True, True, None)] * 2
