"""opml.core.train: exact metrics, best weights, honest words. Each test here answers a defect that copies of this project had."""

import json
import re

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from opml.core import batches, data, dist, features, images, inputs, loop, model, observer, train, trunk
from opml.core.config import BadConfig, TrainConfig
from opml.core.rules import evaluate
from opml.core.sources import read_recorder


@pytest.fixture(scope="module")
def settings(tiny_sample, tmp_path_factory):
    place = tmp_path_factory.mktemp("trained")
    return TrainConfig(
        data=str(tiny_sample), model_dir=str(place / "model"), output_dir=str(place / "out"), weights="none", image_size=32, epochs=3,
        batch_size=6, learning_rate=2e-3,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(settings):
    return train.fit(settings)


@pytest.fixture
def weights_file(tmp_path):
    torch.save(model.build(TrainConfig(weights="none", seed=9), 5)[0].state_dict(), tmp_path / "w.pth")
    return str(tmp_path / "w.pth")


def rows(config):
    with open(f"{config.output_dir}/metrics.json") as file:
        return json.load(file)


def test_all_epochs_are_run_and_recorded(settings, trained):
    assert [row["epoch"] for row in rows(settings)["history"]] == [1, 2, 3]


def test_the_model_that_is_saved_is_the_one_with_the_smallest_validation_loss(settings, trained):
    assert trained["validation:loss"] == min(row["validation:loss"] for row in rows(settings)["history"])
    saved, folder = model.load(settings.model_dir), data.check_folder(settings.data)
    photos = {"valid": batches.Photos(folder.files["valid"], images.preprocessing(32))}
    looks = inputs.Pictures(photos, torch.device("cpu")).batches("valid", batches.shares(6, 4))
    loss, accuracy = loop.evaluate(saved.model, looks, torch.device("cpu"))
    assert loss == pytest.approx(trained["validation:loss"], abs=1e-5) and accuracy == trained["validation:accuracy"]


def test_the_description_says_how_the_model_was_made(settings, trained):
    description = model.load(settings.model_dir).description
    assert description["classes"] == ["Affenpinscher", "Afghan_hound", "Airedale_terrier"]
    assert description["preprocessing"] == images.preprocessing(32)
    assert description["trained"]["metrics"] == trained
    assert TrainConfig(**description["trained"]["config"]) == settings
    assert description["trained"]["versions"]["torch"] == torch.__version__


class Constant(nn.Module):
    """Always the same scores: class 0 by a little."""

    def forward(self, pictures):
        return torch.tensor([[0.5, 0.0]]).expand(len(pictures), 2)


def test_metrics_are_sums_over_samples_divided_once():
    # 5 samples in batches of 4 and 1: a mean of batch means would weigh the last sample fourfold, floor division would say 0.
    samples = [(torch.zeros(3, 2, 2), label, 1.0) for label in (0, 0, 0, 1, 1)]
    loss, accuracy = loop.evaluate(Constant(), DataLoader(samples, batch_size=4), torch.device("cpu"))
    right, wrong = -torch.tensor([0.5, 0.0]).log_softmax(0).double()
    assert accuracy == 0.6
    assert loss == pytest.approx((3 * right + 2 * wrong).item() / 5, abs=1e-7)


def test_the_same_seed_gives_the_same_weights_and_another_gives_others(settings, trained, tmp_path):
    short = settings.replace(epochs=1, model_dir=str(tmp_path / "m"), output_dir=str(tmp_path / "o"))
    prints = []
    for seed in (0, 0, 1):
        train.fit(short.replace(seed=seed))
        prints.append(dist.fingerprint(model.read_weights(short.model_dir)))
    assert prints[0] == prints[1] != prints[2]


def test_a_frozen_backbone_stays_as_it_was_batch_norm_included(settings, weights_file, tmp_path, capsys):
    train.fit(settings.replace(weights=weights_file, epochs=1, model_dir=str(tmp_path / "m"), output_dir=str(tmp_path / "o")))
    before, after = torch.load(weights_file), model.read_weights(tmp_path / "m")
    assert all(torch.equal(before[name], after[name]) for name in after if not name.startswith("fc."))
    assert f"starts from weights: {weights_file}; only its last layer is trained" in capsys.readouterr().out


def test_weights_may_be_trained_on_without_freezing(settings, weights_file, tmp_path):
    train.fit(
        settings.replace(weights=weights_file, freeze="none", epochs=1, model_dir=str(tmp_path / "m"), output_dir=str(tmp_path / "o"))
    )
    assert not torch.equal(torch.load(weights_file)["conv1.weight"], model.read_weights(tmp_path / "m")["conv1.weight"])


def test_without_weights_nothing_is_frozen_and_the_log_says_so(settings, tmp_path, capsys):
    train.fit(settings.replace(epochs=1, model_dir=str(tmp_path / "m"), output_dir=str(tmp_path / "o")))
    start, end = model.build(settings, 3)[0].state_dict(), model.read_weights(tmp_path / "m")
    assert not torch.equal(start["conv1.weight"], end["conv1.weight"])
    assert "without pretrained weights (none were asked for), so nothing is frozen\n" in capsys.readouterr().out


def test_a_backbone_of_random_weights_is_frozen_if_that_is_asked_for_with_a_warning(settings, tmp_path, capsys):
    train.fit(settings.replace(freeze="backbone", epochs=1, model_dir=str(tmp_path / "m"), output_dir=str(tmp_path / "o")))
    start, end = model.build(settings, 3)[0].state_dict(), model.read_weights(tmp_path / "m")
    assert torch.equal(start["conv1.weight"], end["conv1.weight"]) and not torch.equal(start["fc.weight"], end["fc.weight"])
    assert "WARNING: --freeze backbone freezes random weights" in capsys.readouterr().out


def test_the_last_stage_alone_can_be_trained(settings, weights_file, tmp_path, capsys):
    changes = {"freeze": "layer3", "views": 2, "precision": "float32", "epochs": 1}
    train.fit(settings.replace(weights=weights_file, model_dir=str(tmp_path / "m"), output_dir=str(tmp_path / "o"), **changes))
    before, after = torch.load(weights_file), model.read_weights(tmp_path / "m")
    assert {name.split(".")[0] for name in after if not torch.equal(before[name], after[name])} == {"layer4", "fc"}
    assert "features computed once (layer3 frozen, 2 views of each training image, float32): 48 pictures" in capsys.readouterr().out


def test_a_frozen_part_runs_in_float16_where_the_gpu_has_nothing_better(settings, weights_file, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    fastest = trunk.fastest_precision(torch.device("cuda"))
    monkeypatch.setattr(trunk, "fastest_precision", lambda device: fastest)
    folders = {"model_dir": str(tmp_path / "m"), "output_dir": str(tmp_path / "o")}
    final = train.fit(settings.replace(weights=weights_file, epochs=1, **folders))
    assert "--views N makes more, float16)" in capsys.readouterr().out
    assert 0 < final["test:loss"] < 100


@pytest.mark.parametrize(("how", "loaders"), [("once", 0), ("each_epoch", 3)])
def test_workers_compute_the_features_and_load_nothing_afterwards(how, loaders, settings, weights_file, tmp_path, monkeypatch):
    pools, pool = [], features.ThreadPoolExecutor
    monkeypatch.setattr(features, "ThreadPoolExecutor", lambda threads, **words: pools.append(threads) or pool(threads, **words))
    folders = {"model_dir": str(tmp_path / "m"), "output_dir": str(tmp_path / "o")}
    train.fit(settings.replace(weights=weights_file, epochs=4, batch_size=4, features=how, workers=3, **folders))
    assert pools == ([3] if how == "once" else [])
    record = read_recorder(tmp_path / "o" / "record")
    assert record.facts["loaders"] == loaders
    assert (evaluate("Dataloader", record).status == "NotApplicable") == (how == "once")


def test_features_are_computed_on_as_many_threads_as_torch_would_use(settings, weights_file, tmp_path, monkeypatch):
    pools, pool, before = [], features.ThreadPoolExecutor, torch.get_num_threads()
    monkeypatch.setattr(features, "ThreadPoolExecutor", lambda threads, **words: pools.append(threads) or pool(threads, **words))
    torch.set_num_threads(3)
    try:
        folders = {"model_dir": str(tmp_path / "m"), "output_dir": str(tmp_path / "o")}
        train.fit(settings.replace(weights=weights_file, epochs=1, features="once", **folders))
    finally:
        torch.set_num_threads(before)
    assert pools == [3]


def test_patience_ends_a_job_that_gets_no_better(settings, weights_file, tmp_path, capsys):
    short = settings.replace(weights=weights_file, epochs=30, patience=2, learning_rate=0.5, schedule="constant")
    train.fit(short.replace(model_dir=str(tmp_path / "m"), output_dir=str(tmp_path / "o")))
    history = rows(short.replace(output_dir=str(tmp_path / "o")))
    assert len(history["history"]) == history["best_epoch"] + 2 < 30
    assert f"the validation loss was smallest in epoch {history['best_epoch']} (--patience 2)" in capsys.readouterr().out


def test_the_log_says_what_the_job_has_cost_if_it_knows_the_price(settings, tmp_path, capsys):
    train.fit(settings.replace(epochs=1, price_per_hour=3600.0, model_dir=str(tmp_path / "m"), output_dir=str(tmp_path / "o")))
    assert re.search(r"epoch 1/1: .* about 0 s left, \d+\.\d{4} USD so far\n", capsys.readouterr().out)


def test_a_last_batch_of_one_image_can_be_trained_on(settings, tmp_path):
    final = train.fit(settings.replace(batch_size=17, epochs=1, model_dir=str(tmp_path / "m"), output_dir=str(tmp_path / "o")))
    assert 0 < final["train:loss"] < 100


def test_a_loss_that_explodes_is_said_and_nothing_is_saved(settings, tmp_path):
    with pytest.raises(BadConfig, match="the loss became nan in epoch .: lower --learning_rate, it is 1e"):
        train.fit(settings.replace(learning_rate=1e30, model_dir=str(tmp_path / "m"), output_dir=str(tmp_path / "o")))
    assert not (tmp_path / "m").exists()


def test_a_loss_that_explodes_late_costs_no_epoch_before(settings, tmp_path):
    spoiling = observer.Observer()
    spoiling.start = lambda config, model, optimizer, steps: setattr(spoiling, "model", model)
    spoiling.epoch = lambda row: row["epoch"] == 2 and spoiling.model.fc.bias.data.fill_(torch.nan)
    with pytest.raises(
        BadConfig, match="the loss became nan in epoch 3: lower --learning_rate, it is .*; the model so far is that of epoch"
    ):
        train.fit(settings.replace(model_dir=str(tmp_path / "m"), output_dir=str(tmp_path / "o")), spoiling)
    saved = model.load(tmp_path / "m")
    assert saved.description["trained"]["best_epoch"] in (1, 2)
    assert all(value.isfinite().all() for value in saved.model.state_dict().values())


def test_an_observer_sees_the_gradients_and_not_what_float16_makes_of_them():
    tail, seen = nn.Linear(4, 3), []
    watching = observer.Observer()
    watching.backward = lambda: seen.append(tail.weight.grad.clone())
    batch = batches.Batch(torch.rand(5, 4), torch.tensor([0, 1, 2, 0, 1]), torch.full((5,), 0.2))
    learner = loop.Learner(tail, TrainConfig(), 10, False, torch.float16, watching)
    (weight,) = torch.autograd.grad(nn.functional.cross_entropy(tail(batch.inputs), batch.labels), [tail.weight])
    learner.learn(batch)
    assert learner.scaler.get_scale() == 65536 and torch.allclose(seen[0], weight, atol=1e-3)


def test_an_observer_that_fails_at_the_end_does_not_mask_why_the_job_failed(settings, tmp_path, capsys, monkeypatch):
    left, watching = [], observer.Observer()
    monkeypatch.setattr(dist, "leave", lambda: left.append(True))

    def fail(final):
        raise KeyError("a bug")

    watching.end = fail
    with pytest.raises(BadConfig, match="data"):
        train.fit(settings.replace(data=str(tmp_path / "none")), watching)
    assert left == [True] and "WARNING: what watched this job ended with KeyError: 'a bug'" in capsys.readouterr().out


@pytest.mark.parametrize("schedule, rise", [("cosine", 10), ("onecycle", 30)])
def test_the_step_size_rises_falls_and_ends_near_nothing(schedule, rise):
    sizes = [loop.step_size(step, 100, schedule) for step in range(100)]
    assert sizes[rise - 1] == max(sizes) == 1 and 0 < sizes[0] <= 0.1 and 0 <= sizes[-1] < 0.001
    assert loop.step_size(0, 1, schedule) == 1


def test_a_constant_step_size_is_the_learning_rate():
    assert {loop.step_size(step, 10, "constant") for step in range(10)} == {1.0}
