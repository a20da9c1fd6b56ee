"""Several processes of one job: what happens if they are not joined, disagree, or one of them is gone."""

import json
import shutil
import time

import pytest
from doors import QUICK, finish, flags, start

from opml.commands.bench_train import hosts

SETTINGS = QUICK | {"freeze": "backbone", "precision": "float32"}
QUICKER = "import opml.core.lifeline as l; l.SILENCE = 3.0"
KILL = "lambda *a, **k: __import__('os').kill(__import__('os').getpid(), 9)"
SLOW = "lambda *a, **k: __import__('time').sleep(60)"  # a process that computes for long, and needs nobody


def job(place, data, befores, settings=SETTINGS):
    """One process for each of ``befores``, the Python that is run first in it."""
    words = flags(**settings, data=data)
    return [start("hpo.py", words, place / str(rank), f"{QUICKER}\n{before}", **env) for rank, (before, env) in enumerate(
        zip(befores, hosts(len(befores)), strict=True)
    )]  # fmt: skip


def ends(processes, seconds):
    """(exit code, log) of each; they must all end in time."""
    deadline = time.monotonic() + seconds
    logs = [process.communicate(timeout=max(1, deadline - time.monotonic()))[0] for process in processes]
    return [(process.returncode, log) for process, log in zip(processes, logs, strict=True)]


FEATURES, LOOP = "from opml.core import features; features._compute = ", "from opml.core import loop; loop."


@pytest.mark.parametrize(
    "gone, dies, waits",
    [
        (1, FEATURES + KILL, ""),
        (0, FEATURES + KILL, FEATURES + SLOW),
        (0, f"{LOOP}Learner.learn = {KILL}", ""),
        (1, f"{LOOP}evaluate = {KILL}", ""),
    ],
    ids=["in features, the other waits", "in features, the other computes", "in training", "in validation"],
)
def test_a_process_that_is_killed_ends_the_others_with_a_reason(gone, dies, waits, tiny_sample, tmp_path):
    ended = ends(job(tmp_path, tiny_sample, [dies, waits] if gone == 0 else [waits, dies]), 60)
    assert ended[gone][0] == -9
    code, log = ended[1 - gone]
    assert code == 1 and f"process {gone} of 2 is gone" in log and "Traceback" not in log


def test_a_process_that_fails_tells_the_others_why(tiny_sample, tmp_path):
    damaged = shutil.copytree(tiny_sample, tmp_path / "data")
    spoil = "from opml.core import batches\ndef pixels(*a): raise batches.BadConfig('dog.jpg is no dog')\nbatches.Photos.pixels = pixels"
    first, second = ends(job(tmp_path, damaged, ["", spoil]), 60)
    assert second[0] == 2 and "error: dog.jpg is no dog" in second[1]
    assert first[0] == 1 and "process 1 of 2 failed: dog.jpg is no dog" in first[1]


def test_processes_that_have_different_data_all_end_with_one_sentence(tiny_sample, tmp_path):
    other = shutil.copytree(tiny_sample, tmp_path / "other")
    next((other / "train/002.Afghan_hound").iterdir()).unlink()
    elsewhere = f"import sys; sys.argv[sys.argv.index('--data') + 1] = {str(other)!r}"
    ended = ends(job(tmp_path, tiny_sample, ["", elsewhere]), 60)
    assert [code for code, _ in ended] == [2, 2]
    for _, log in ended:
        assert "disagree about the data: process 0 has 18 train, 6 valid, 6 test images, process 1 has 17 train" in log


def test_instances_that_nothing_joins_say_so_first_or_fail_if_that_is_asked_for(tiny_sample, tmp_path):
    words = flags(**SETTINGS | {"epochs": 1, "join": False}, data=tiny_sample)
    copies = [start("hpo.py", words, tmp_path / str(rank), **env) for rank, env in enumerate(hosts(2))]
    for log in map(finish, copies):
        assert log.startswith("WARNING: this job has 2 instances or processes, and nothing joins them: each trains a copy of its own")
    refused = start("hpo.py", [*words, "--require_distributed", "True"], tmp_path / "no", **hosts(2)[0])
    log, _ = refused.communicate(timeout=60)
    assert refused.returncode == 2 and "nothing joins them" in log and "model saved" not in log


def test_unreadable_images_are_left_out_by_all_processes_alike(tiny_sample, tmp_path):
    damaged = shutil.copytree(tiny_sample, tmp_path / "data")
    (damaged / "train/001.Affenpinscher/Affenpinscher_00001.jpg").write_text("no image")
    words = flags(**SETTINGS | {"epochs": 1, "skip_unreadable": True}, data=damaged)
    logs = [finish(one) for one in [start("hpo.py", words, tmp_path / str(rank), **env) for rank, env in enumerate(hosts(2))]]
    assert "1 images cannot be decoded and are left out (--skip_unreadable):\n" in logs[0] and "17 train" in logs[0]
    assert len(json.loads((tmp_path / "0/output/metrics.json").read_text())["skipped"]) == 1
