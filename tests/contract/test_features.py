"""Features computed once: the same model as the ordinary loop's, on one process and on several, to the last digit that is printed."""

import json
import re
import shutil

import pytest
import torch
from doors import finish, flags, start

from opml.commands.bench_train import hosts
from opml.core import model
from opml.core.metrics import METRICS

FROZEN = {
    "weights": "none", "freeze": "backbone", "image_size": 32, "epochs": 3, "batch_size": 7, "learning_rate": 0.01, "precision": "float32",
}  # fmt: skip


@pytest.fixture(scope="module")
def uneven(tiny_sample, tmp_path_factory):
    """17 images to learn from and 5 to validate on: neither divides by 2, 3 or the batch."""
    folder = shutil.copytree(tiny_sample, tmp_path_factory.mktemp("uneven") / "data")
    for name in ("train/001.Affenpinscher/Affenpinscher_00000.jpg", "valid/002.Afghan_hound/Afghan_hound_00000.jpg"):
        (folder / name).unlink()
    return folder


def train(count, place, data, **settings):
    """The logs of the processes of one job, and the folder of the first."""
    jobs = []
    for rank, env in enumerate(hosts(count)):
        own = place / str(rank)
        folders = {"SM_MODEL_DIR": str(own / "model"), "SM_OUTPUT_DATA_DIR": str(own / "output")}
        jobs.append(start("hpo.py", flags(**FROZEN | settings, data=data), own, **folders, **env))
    return [finish(job) for job in jobs], place / "0"


def numbers(log):
    return {metric.name: metric.read(log) for metric in METRICS}


def losses(place):
    return [row["train:loss"] for row in json.loads((place / "output/metrics.json").read_text())["history"]]


@pytest.fixture(scope="module")
def alone(uneven, tmp_path_factory):
    """One process; (log, folder)."""
    (log,), place = train(1, tmp_path_factory.mktemp("alone"), uneven, views=2)
    return log, place


@pytest.mark.parametrize("count", [2, 3])
def test_several_processes_end_with_the_weights_and_the_numbers_of_one(count, alone, uneven, tmp_path):
    (first, *others), place = train(count, tmp_path, uneven, views=2)
    wanted, got = (model.read_weights(folder / "model") for folder in (alone[1], place))
    assert torch.equal(wanted["fc.weight"], got["fc.weight"]) and torch.equal(wanted["fc.bias"], got["fc.bias"])
    assert numbers(first) == numbers(alone[0]) and f"equal on {count} processes" in first
    assert not any(numbers(log)["test:loss"] for log in others), "one process speaks"


def test_two_threads_give_the_features_of_one(alone, uneven, tmp_path):
    log = finish(start("hpo.py", flags(**FROZEN, views=2, data=uneven), tmp_path, OMP_NUM_THREADS="2"))
    assert numbers(log) == numbers(alone[0]) and "1 process, on cpu with 2 threads" in log


def test_features_computed_once_and_in_each_epoch_give_the_same_loss_curve(uneven, tmp_path):
    (once,), first = train(1, tmp_path / "once", uneven, augment=False)
    (each,), second = train(1, tmp_path / "each", uneven, augment=False, features="each_epoch")
    assert "features computed once (backbone frozen, no augmentation, float32): 28 pictures" in once
    assert "features computed in each epoch: --features each_epoch asks for it" in each
    assert losses(first) == pytest.approx(losses(second), rel=1e-4) and len(losses(first)) == 3


def test_views_take_turns_and_give_the_loss_curve_of_the_ordinary_loop(alone, uneven, tmp_path):
    _, place = train(1, tmp_path, uneven, views=2, features="each_epoch")
    assert losses(alone[1]) == pytest.approx(losses(place), rel=1e-4)
    assert "2 views of each training image, float32): 45 pictures" in alone[0]


def test_features_in_bfloat16_give_nearly_the_validation_loss_of_float32(uneven, alone, tmp_path):
    (log,), _ = train(1, tmp_path, uneven, views=2, precision="bfloat16")
    assert numbers(log)["validation:loss"][-1] == pytest.approx(numbers(alone[0])["validation:loss"][-1], rel=0.01)


def test_the_last_stage_is_trained_together_on_features(uneven, tmp_path):
    (first, _), place = train(2, tmp_path, uneven, freeze="layer3", batch_size=8)
    assert "features computed once (layer3 frozen" in first and "equal on 2 processes" in first
    assert model.load(place / "model").description["trained"]["frozen"] == "layer3"


def test_features_that_are_too_many_are_computed_in_each_epoch(uneven, tmp_path):
    job = start("hpo.py", flags(**FROZEN, data=uneven), tmp_path, before="import opml.core.features as f; f.MOST = 1000")
    assert re.search(r"features computed in each epoch: to keep them would take 0\.0 GB, at most 0\.0 GB are kept", finish(job))
