"""Reading what smdebug saved: the hook runs in a process of its own, since smdebug keeps its state for the life of a process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from opml.core.records import EVAL, TRAIN, Phase, Record, sample, summarise
from opml.core.rules import evaluate
from opml.core.sources import ProfilerSource, SmdebugSource, read_smdebug
from opml.core.statistics import summaries

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


def test_a_sample_of_a_large_tensor_sees_all_places_of_its_kernels():
    kernels = np.zeros((512, 256, 3, 3))
    kernels[:, :, 1, 1] = 1.0
    assert sample(kernels.reshape(-1)).mean() == pytest.approx(1 / 9, rel=0.05)
    assert len(sample(np.zeros(4096))) == 4096 and len(sample(kernels.reshape(-1))) <= 4096


@pytest.mark.parametrize("shape", [(1,), (7,), (64, 3, 7, 7), (512, 256, 3, 3)])
def test_the_recorder_takes_the_same_statistics_as_the_record(shape):
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    tensor = tensor.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else tensor
    ours, theirs = summaries({"a": tensor})["a"], summarise(tensor.numpy())
    for figure in ("mean", "std", "abs_mean", "l2", "p5", "p95"):
        assert getattr(ours, figure) == pytest.approx(getattr(theirs, figure), rel=1e-4, abs=1e-6), figure
    assert (ours.size, ours.nan, ours.inf) == (theirs.size, 0, 0)


def test_nan_and_infinity_are_counted_on_the_device():
    found = summaries({"a": torch.tensor([1.0, float("nan"), float("inf")])})["a"]
    assert (found.nan, found.inf, found.size) == (1, 1, 3)


@pytest.mark.parametrize(("mean", "spread"), [(1000, 0.1), (10, 0.001), (-3, 0.5), (0, 1), (5, 0)])
def test_the_deviation_is_right_also_where_the_mean_is_much_larger(mean, spread):
    values = mean + spread * np.random.default_rng(0).standard_normal((64, 32))
    (summary,) = summaries({"a": torch.tensor(values, dtype=torch.float32)}).values()
    assert summary.std == pytest.approx(values.std(), rel=1e-3)


@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_what_is_not_finite_has_no_deviation(odd):
    (summary,) = summaries({"a": torch.tensor([1.0, odd])}).values()
    assert np.isnan(summary.std) and np.isnan(summarise(np.array([1.0, odd])).std)
    assert summaries({"a": torch.tensor([3.0])})["a"].std == 0


def test_the_files_of_sagemakers_profiler_are_read_on_as_they_grow(tmp_path):
    minute, trace = tmp_path / "system/incremental/2026112111", tmp_path / "framework/pevents/2026112111"
    minute.mkdir(parents=True)
    trace.mkdir(parents=True)
    rows = [("cpu", "cpu0", "CPUUtilization", 80.0), ("memory", "MemoryUsedPercent", "", 5.0), ("i/o", "IOPS", "", 3.0)]
    keys = ("Type", "Name", "Dimension", "Value")
    lines = [json.dumps({**dict(zip(keys, row, strict=True)), "NodeId": "algo-1", "Timestamp": 9.5}) + "\n" for row in rows]
    (minute / "1795258860.algo-1.json").write_text(lines[0] + lines[1][:20])
    source = ProfilerSource(tmp_path)
    assert [sample.value for sample in source.update().system] == [80.0]
    (minute / "1795258860.algo-1.json").write_text("".join(lines))
    assert [sample[2:] for sample in source.update().system] == [
        ("cpu0", "CPUUtilization", 80.0), ("memory", "MemoryUsedPercent", 5.0), ("i/o", "IOPS", 3.0)
    ]  # fmt: skip
    steps = (("EVAL", "7", 2_000_000), ("TRAIN", "6", 0))
    events = [{"name": "process_name", "ph": "M", "args": {"start_time_since_epoch_in_micros": 5_000_000}}, {"name": "Forward", "ph": "X"}]
    events += [
        {"name": f"Step:ModeKeys.{mode}", "ph": "X", "ts": ts, "dur": 250_000, "args": {"step_num": str(n)}} for mode, n, ts in steps
    ]
    whole = trace / "1795258887_1-algo-2_pythontimeline.json"
    whole.write_text(json.dumps(events)[:-5])
    assert source.update().phases == []
    whole.write_text(json.dumps(events))
    assert source.update().phases == [Phase(7, "EVAL", "step", 7.0, 0.25, "algo-2"), Phase(6, "TRAIN", "step", 5.0, 0.25, "algo-2")]
    assert len(source.update().phases) == 2
    record = Record()
    record.add("loss", "EVAL", 107, np.array(1.0), mode_step=7)
    assert [phase.step for phase in ProfilerSource(tmp_path, record).update().phases] == [107, 6]
