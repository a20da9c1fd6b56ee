"""opml.core.checkpoints: what is found, what is refused, and what a damaged file or a full disk does."""

import errno
import io
import json

import pytest
import torch

from opml.core import checkpoints, files
from opml.core.checkpoints import Shelf
from opml.core.config import BadConfig, TrainConfig

HERE = TrainConfig(weights="none")


def state(position=(2, 0), **changes):
    about = {"data": ("d", "6 images"), "starting weights": ("s", "from the seed")}
    return {"settings": checkpoints.settings(HERE, "none") | changes, "about": about, "position": position, "tensor": torch.arange(1000)}


def saved(content):
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def check(here=HERE, theirs=None, about=None):
    theirs = theirs or state()
    checkpoints.check_fits(theirs, "c.pt", checkpoints.settings(here, "none"), about or state()["about"], theirs["position"][0] - 1)


def test_the_newest_of_two_is_found_and_the_older_one_replaced(tmp_path):
    for epoch in (2, 3, 4):
        assert "checkpoint" in Shelf.write(shelf := _reopened(tmp_path), state((epoch, 0)))
    assert sorted(path.name for path in tmp_path.iterdir()) == list(checkpoints.NAMES)
    found, path = _reopened(tmp_path).newest()
    assert found["position"] == (4, 0) and path.endswith("checkpoint-a.pt") and shelf.number == 3


def _reopened(folder):
    shelf = Shelf(folder)
    shelf.newest()
    return shelf


def test_where_there_is_none_nothing_is_found(tmp_path):
    assert Shelf(tmp_path / "not-there-yet").newest() is None


DAMAGE = {
    "half of it": lambda content: content[: len(content) // 2],
    "one bit": lambda content: content[:2000] + bytes([content[2000] ^ 1]) + content[2001:],  # torch.load would not notice
    "nothing": lambda content: b"",
    "something else": lambda content: b"no checkpoint",
    "another file of torch's": lambda content: saved(HERE),
    "another zip archive": lambda content: content.replace(b"data.pkl", b"data.txt"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(damage, tmp_path, capsys):
    shelf = Shelf(tmp_path)
    for epoch in (2, 3):
        shelf.write(state((epoch, 0)))
    newest = tmp_path / "checkpoint-b.pt"
    newest.write_bytes(DAMAGE[damage](newest.read_bytes()))
    found, path = shelf.newest()
    assert found["position"] == (2, 0)
    said = capsys.readouterr().out
    assert said.startswith(f"WARNING: {newest} is damaged (") and said.endswith(f": {path} is used\n")
    shelf.write(state((3, 0)))
    assert shelf.newest()[0]["position"] == (3, 0), "the damaged one is written over, not the whole one"


def test_where_both_are_damaged_training_starts_anew_and_the_log_says_so(tmp_path, capsys):
    for name in checkpoints.NAMES:
        (tmp_path / name).write_text("x")
    assert Shelf(tmp_path).newest() is None
    assert capsys.readouterr().out.count("training starts from the beginning") == 2


def test_what_a_killed_writer_left_is_removed(tmp_path):
    (tmp_path / ".checkpoint-a.pt.4242").write_text("half")
    Shelf(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_costs_the_checkpoint_and_not_the_job(tmp_path, monkeypatch):
    shelf = Shelf(tmp_path)
    shelf.write(state((2, 0)))

    def full(path, write):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "write_whole", full)
    assert shelf.write(state((3, 0))) == f"WARNING: no checkpoint could be written to {tmp_path} (no space left); the one before is kept"
    assert shelf.newest()[0]["position"] == (2, 0)


def test_too_little_space_for_two_checkpoints_is_said_before_training(tmp_path):
    with pytest.raises(BadConfig, match="no space left in .* MB are needed .* --checkpoint_dir"):
        Shelf(tmp_path).check_space(10**17)


def test_a_file_in_the_place_of_the_folder_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BadConfig, match="file is no folder one may write to.* --checkpoint_dir"):
        Shelf(tmp_path / "file")


def test_a_checkpoint_of_this_job_is_accepted_wherever_things_are_now():
    check(HERE.replace(data="elsewhere", workers=3, checkpoint_every=7, price_per_hour=1.0, weights="auto"))


@pytest.mark.parametrize(
    "name, value", [("arch", "resnet50"), ("batch_size", 64), ("seed", 9), ("augment", False), ("precision", "float32")]
)
def test_a_checkpoint_of_another_job_is_refused_with_both_values(name, value):
    mine = getattr(HERE, name)
    with pytest.raises(BadConfig, match=f"of a job with --{name} {value}, and this one has --{name} {mine}: use --{name} {value}, or name"):
        check(theirs=state(**{name: value}))


def test_what_freeze_auto_came_to_counts():
    with pytest.raises(BadConfig, match="with --freeze backbone, and this one has --freeze none"):
        check(theirs=state(freeze="backbone"))


@pytest.mark.parametrize("what", ["data", "starting weights"])
def test_other_data_or_weights_are_refused(what):
    with pytest.raises(BadConfig, match=f"of a job with other {what} \\(.*; here other ones\\): give this job the same {what}"):
        check(about=state()["about"] | {what: ("x", "other ones")})


def test_more_epochs_go_on_with_a_constant_step_size_only():
    constant = state(schedule="constant")
    check(HERE.replace(schedule="constant", epochs=50), constant)
    with pytest.raises(BadConfig, match="with --epochs 5, and this one has --epochs 50; the step sizes depend on it"):
        check(HERE.replace(epochs=50))
    with pytest.raises(BadConfig, match="--epochs 5, and this one has --epochs 1"):
        check(HERE.replace(schedule="constant", epochs=1), state((4, 0), schedule="constant"))


def test_a_setting_that_the_checkpoint_does_not_know_had_its_default():
    old = state()
    del old["settings"]["patience"]
    check(theirs=old)
    with pytest.raises(BadConfig, match="--patience 0, and this one has --patience 2"):
        check(HERE.replace(patience=2), old)


def test_the_folder_is_what_sagemaker_says_or_what_the_job_names(tmp_path, monkeypatch):
    monkeypatch.delenv("SM_INPUT_DIR", raising=False)
    assert checkpoints.folder(HERE) is None and checkpoints.folder(HERE.replace(checkpoint_dir="c")).name == "c"
    monkeypatch.setenv("SM_INPUT_DIR", str(tmp_path / "input"))
    assert checkpoints.folder(HERE) is None, "a job without a CheckpointConfig"
    (tmp_path / "checkpoints").mkdir()
    assert checkpoints.folder(HERE) == tmp_path / "checkpoints"
    (tmp_path / "input/config").mkdir(parents=True)
    (tmp_path / "input/config/checkpointconfig.json").write_text(json.dumps({"LocalPath": str(tmp_path / "own")}))
    assert checkpoints.folder(HERE) == tmp_path / "own"
    assert checkpoints.folder(HERE.replace(checkpoint_dir="none")) is None
