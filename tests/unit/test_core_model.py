"""opml.core.model: weights in, artefact out."""

import errno
import json
import os
import shutil
import urllib.error
from collections import namedtuple

import pytest
import torch
import torchvision

from opml.core import dist, model
from opml.core.config import BadConfig, TrainConfig

DESCRIPTION = {"architecture": "resnet18", "classes": ["Beagle", "Boxer", "Briard"], "preprocessing": {}, "trained": {}}


def network(classes=3, arch="resnet18", seed=1):
    torch.manual_seed(seed)
    return torchvision.models.get_model(arch, weights=None, num_classes=classes)


@pytest.fixture
def weights_file(tmp_path):
    torch.save(network(classes=7).state_dict(), tmp_path / "weights.pth")
    return str(tmp_path / "weights.pth")


def test_the_seed_decides_the_weights():
    prints = [dist.fingerprint(model.build(TrainConfig(weights="none", seed=seed), 3)[0].state_dict()) for seed in (1, 1, 2)]
    assert prints[0] == prints[1] != prints[2]


def test_a_weights_file_for_other_classes_gives_the_backbone(weights_file):
    built, source = model.build(TrainConfig(weights=weights_file), 3)
    assert source == weights_file
    assert torch.equal(built.state_dict()["layer4.1.conv2.weight"], network(7).state_dict()["layer4.1.conv2.weight"])
    assert built.fc.weight.shape == (3, 512)


def test_a_weights_file_for_as_many_classes_gives_the_last_layer_too(tmp_path):
    model.save(tmp_path / "artefact", network(3).state_dict(), DESCRIPTION)
    built, _ = model.build(TrainConfig(weights=str(tmp_path / "artefact")), 3)
    assert torch.equal(built.fc.weight, network(3).fc.weight)


def test_old_weights_files_without_batch_counters_fit(tmp_path):
    old = {name: value for name, value in network(3).state_dict().items() if not name.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "old.pth")
    assert model.build(TrainConfig(weights=str(tmp_path / "old.pth")), 3)[1]


@pytest.mark.parametrize(
    "arch, said",
    [("resnet50", r"does not fit resnet50: layer1.0.conv1.weight is \[64, 64, 3, 3\] there and \[64, 64, 1, 1\] here"),
     ("resnet34", r"does not fit resnet34: it has no layer1.2.conv1.weight")],
)  # fmt: skip
def test_weights_of_another_architecture_are_refused_by_name_and_shape(arch, said, weights_file):
    with pytest.raises(BadConfig, match=r"the weights file \S*weights.pth " + said):
        model.build(TrainConfig(weights=weights_file, arch=arch), 3)


def test_weights_of_a_larger_network_are_refused(tmp_path):
    torch.save(network(arch="resnet34").state_dict(), tmp_path / "w.pth")
    with pytest.raises(BadConfig, match=r"does not fit resnet18: resnet18 has no layer1.2.conv1.weight"):
        model.build(TrainConfig(weights=str(tmp_path / "w.pth")), 3)


class Trap:
    def __reduce__(self):
        return os.mkdir, ("sprung",)


@pytest.mark.parametrize(
    "content, said",
    [
        (None, "there is no weights file"),
        (b"text", "cannot be read"),
        (b"", "cannot be read"),
        ({"epoch": 3}, "holds no state dictionary"),
        (Trap(), "cannot be read"),
    ],
    ids=["missing", "text", "empty", "other things", "code"],
)
def test_what_is_no_weights_file_is_refused_and_never_run(content, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "w.pth"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        torch.save(content, file)
    with pytest.raises(BadConfig, match=said):
        model.build(TrainConfig(weights=str(file)), 3)
    assert not (tmp_path / "sprung").exists()


def no_network(*args, **kwargs):
    raise urllib.error.URLError("no way out")


def test_imagenet_weights_that_cannot_be_had_are_done_without_or_asked_for(monkeypatch):
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", no_network)
    assert model.build(TrainConfig(weights="auto"), 3)[1] is None
    with pytest.raises(BadConfig, match=r"ImageNet weights of resnet18 cannot be had .*no way out.*--weights none"):
        model.build(TrainConfig(weights="imagenet"), 3)


def test_imagenet_weights_are_used_where_they_can_be_had(monkeypatch):
    pretrained = network(classes=1000).state_dict()
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda url, **options: pretrained)
    built, source = model.build(TrainConfig(weights="auto"), 3)
    assert source == "ImageNet" and torch.equal(built.conv1.weight, pretrained["conv1.weight"])


def test_what_is_saved_is_loaded(tmp_path):
    saved = network(3)
    model.save(tmp_path, saved.state_dict(), DESCRIPTION)
    loaded = model.load(tmp_path)
    assert dist.fingerprint(loaded.model.state_dict()) == dist.fingerprint(saved.state_dict())
    assert loaded.description == DESCRIPTION and not loaded.model.training
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.json", "model.pth"]


def test_a_full_disk_is_one_sentence_and_leaves_the_old_model(tmp_path, monkeypatch):
    model.save(tmp_path, network(3).state_dict(), DESCRIPTION)
    before = (tmp_path / "model.pth").read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BadConfig, match="there is no space left in .* for the model"):
        model.save(tmp_path, network(3, seed=2).state_dict(), DESCRIPTION)
    assert (tmp_path / "model.pth").read_bytes() == before and len(list(tmp_path.iterdir())) == 2


def test_metrics_that_cannot_be_written_leave_the_old_ones(tmp_path, monkeypatch):
    model.write_metrics(tmp_path, {"history": []})

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BadConfig, match=r"the metrics cannot be written to .* \(No space left on device\): name another --output_dir"):
        model.write_metrics(tmp_path, {"history": [1]})
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"history": []} and len(list(tmp_path.iterdir())) == 1


def test_too_little_space_is_found_out_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: namedtuple("usage", "free")(10_000_000))
    with pytest.raises(BadConfig, match=r"45 MB are needed and 10 MB are free; free some, or name another folder with --model_dir"):
        model.check_space(tmp_path / "not" / "yet", "model_dir", model.state_bytes(network()) - 2**20)


def test_a_folder_that_is_a_file_is_found_out_before_training(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BadConfig, match="file is no folder one may write to"):
        model.check_space(tmp_path / "file" / "model", "model_dir", 0)


@pytest.mark.parametrize("change", [{"architecture": "vgg16"}, {"classes": ["one", "two"]}, {"classes": 3}])
def test_a_description_that_does_not_fit_the_weights_is_refused(change, tmp_path):
    model.save(tmp_path, network(3).state_dict(), DESCRIPTION | change)
    with pytest.raises(BadConfig, match="model.json"):
        model.load(tmp_path)


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(BadConfig, match="holds no model that opml saved"):
        model.load(tmp_path)
    (tmp_path / "model.json").write_text(json.dumps(DESCRIPTION))
    with pytest.raises(BadConfig, match="there is no weights file"):
        model.load(tmp_path)
