"""Jobs that end in the middle, in this process: whatever the moment, the second life ends where an undisturbed job does."""

import json
import os
import signal

import pytest

from opml.core import checkpoints, model, train
from opml.core.config import BadConfig, TrainConfig
from opml.core.observer import Observer
from opml.core.stopping import Stopped


class Killed(BaseException):
    """Stands for kill -9: nobody catches it."""


class At(Observer):
    """Does something at one moment: before a step, or when a phase begins for the n-th time."""

    def __init__(self, act, step=None, phase=None, times=1):
        self.act, self.step, self.wanted, self.times, self.name, self.steps = act, step, phase, times, "", 0

    def loaded(self):
        if self.name == "train" and self.steps == self.step:
            self.act()
        self.steps += self.name == "train"

    def phase(self, name):
        self.name = name
        self.times -= name == self.wanted
        if name == self.wanted and self.times == 0:
            self.act()


def die():
    raise Killed


def sigterm():
    os.kill(os.getpid(), signal.SIGTERM)


def in_folder(data, place):
    return TrainConfig(
        data=str(data), model_dir=str(place / "m"), output_dir=str(place / "o"), checkpoint_dir=str(place / "c"),
        weights="none", freeze="backbone", precision="float32", image_size=32, epochs=5, batch_size=7, learning_rate=2e-3, views=2,
    )  # fmt: skip


@pytest.fixture
def settings(tiny_sample, tmp_path):
    return in_folder(tiny_sample, tmp_path)


def result(config):
    with open(f"{config.output_dir}/metrics.json") as file:
        content = json.load(file)
    rows = [{name: value for name, value in row.items() if name != "images_per_second"} for row in content["history"]]
    return content["weights_sha256"], content["best_epoch"], rows


@pytest.fixture(scope="module")
def undisturbed(tiny_sample, tmp_path_factory):
    whole = in_folder(tiny_sample, tmp_path_factory.mktemp("whole")).replace(checkpoint_dir="none")
    train.fit(whole)
    return result(whole)


def test_a_killed_job_repeats_what_came_after_the_last_checkpoint(settings, undisturbed, capsys):
    with pytest.raises(Killed):
        train.fit(settings.replace(checkpoint_every=4), At(die, step=11))  # 3 steps an epoch
    train.fit(settings.replace(checkpoint_every=4))
    assert result(settings) == undisturbed
    assert f"resuming after epoch 3 from {settings.checkpoint_dir}/checkpoint-" in capsys.readouterr().out


def test_within_an_epoch_its_first_steps_are_not_repeated(settings, undisturbed, capsys):
    with pytest.raises(Killed):
        train.fit(settings.replace(checkpoint_every=4), At(die, step=5))
    train.fit(settings)
    assert result(settings) == undisturbed
    assert "resuming after epoch 1, step 1 from " in capsys.readouterr().out


@pytest.mark.parametrize("step, where", [(4, "epoch 1, step 2"), (5, "epoch 1, step 3")])
def test_sigterm_ends_the_job_after_the_step_and_saves_the_model_so_far(step, where, settings, undisturbed, capsys):
    with pytest.raises(Stopped):
        train.fit(settings, At(sigterm, step=step))
    assert f"stopped by SIGTERM after {where}; checkpoint {settings.checkpoint_dir}/" in capsys.readouterr().out
    assert model.load(settings.model_dir).description["trained"]["best_epoch"] == 1
    train.fit(settings)
    assert result(settings) == undisturbed


def test_sigterm_during_validation_is_obeyed_after_it_and_nothing_is_lost_before(settings, undisturbed, capsys):
    with pytest.raises(Stopped):
        train.fit(settings, At(sigterm, phase="eval", times=2))
    said = capsys.readouterr().out
    assert said.index("SIGTERM came, validation or test goes on; the model so far is that of epoch 1") < said.index("stopped by SIGTERM")
    assert "stopped by SIGTERM after epoch 2; checkpoint " in said
    train.fit(settings)
    assert result(settings) == undisturbed


def test_sigterm_during_the_test_pass_comes_too_late_to_end_the_job(settings, undisturbed):
    train.fit(settings, At(sigterm, phase="test"))
    assert result(settings) == undisturbed


def test_a_job_that_was_done_looks_at_test_again_and_saves_the_same_model(settings, undisturbed):
    train.fit(settings)
    train.fit(settings)
    assert result(settings) == undisturbed


def test_a_job_without_checkpoints_is_stopped_too_and_says_what_that_means(settings, capsys):
    with pytest.raises(Stopped):
        train.fit(settings.replace(checkpoint_dir="none"), At(sigterm, step=1))
    said = capsys.readouterr().out
    assert "stopped by SIGTERM after epoch 0, step 2; no checkpoint, because --checkpoint_dir names no folder; no model yet" in said


def test_a_job_that_is_killed_while_it_writes_has_the_checkpoint_before(settings, undisturbed, monkeypatch):
    written, save = [], checkpoints.torch.save

    def save_or_die(state, file):
        written.append(state["position"])
        file.write(b"half") and len(written) == 4 and die()
        file.seek(0), save(state, file)

    monkeypatch.setattr(checkpoints.torch, "save", save_or_die)
    with pytest.raises(Killed):
        train.fit(settings)
    monkeypatch.undo()
    assert checkpoints.Shelf(checkpoints.folder(settings)).newest()[0]["position"] == (4, 0)
    train.fit(settings)
    assert result(settings) == undisturbed


def test_patience_is_remembered(settings, tmp_path):
    hasty = settings.replace(epochs=30, patience=2, learning_rate=0.5, schedule="constant")
    train.fit(hasty.replace(checkpoint_dir="none"))
    whole = result(hasty)
    with pytest.raises(Killed):
        train.fit(hasty, At(die, step=3 * len(whole[2]) - 2))
    train.fit(hasty)
    assert result(hasty) == whole


def test_a_checkpoint_of_another_architecture_is_refused_before_training(settings):
    with pytest.raises(Killed):
        train.fit(settings, At(die, step=4))
    with pytest.raises(BadConfig, match="of a job with --arch resnet18, and this one has --arch resnet34: use --arch resnet18, or name"):
        train.fit(settings.replace(arch="resnet34"))
