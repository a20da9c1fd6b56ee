"""hpo.py and ec2train.py as processes: one result, on one process or several, and one sentence for what is wrong."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from doors import QUICK, ROOT, finish, flags, start

import hpo
from opml.commands.bench_train import hosts
from opml.core import loop, model
from opml.core.config import TrainConfig
from opml.core.metrics import TEST_ACCURACY, VALID_LOSS

NO_AWS = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("sagemaker", "boto3", "botocore", "moto"):
            raise RuntimeError(f"{name} was imported")
sys.meta_path.insert(0, Refuse())
sys.modules["pandas"] = None  # torch asks whether it is there
"""


@pytest.fixture(scope="session")
def weights_file(tmp_path_factory):
    """A random backbone, made for another number of classes."""
    file = tmp_path_factory.mktemp("weights") / "backbone.pth"
    torch.save(model.build(TrainConfig(weights="none", seed=4), 9)[0].state_dict(), file)
    return file


@pytest.fixture(scope="session")
def by_hpo(tiny_sample, tmp_path_factory):
    """A model that hpo.py trained alone, in an interpreter where importing AWS's libraries raises; (folder, log)."""
    place = tmp_path_factory.mktemp("hpo")
    env = {"SM_CHANNEL_TRAINING": str(tiny_sample), "SM_MODEL_DIR": str(place / "model"), "SM_OUTPUT_DATA_DIR": str(place / "output")}
    return place, finish(start("hpo.py", flags(**QUICK), place, before=NO_AWS, **env))


@pytest.fixture(scope="session")
def by_ec2train(tiny_sample, tmp_path_factory):
    """The same from ec2train.py; (folder, log)."""
    place = tmp_path_factory.mktemp("ec2")
    return place, finish(start("ec2train.py", flags(**QUICK, data=tiny_sample), place, before=NO_AWS))


def train_on(count, words, place):
    """The logs of the processes of one job; each has its own folders, as instances do."""
    jobs = []
    for rank, env in enumerate(hosts(count)):
        own = place / str(rank)
        jobs.append(start("hpo.py", words, own, SM_MODEL_DIR=str(own / "model"), SM_OUTPUT_DATA_DIR=str(own / "output"), **env))
    return [finish(job) for job in jobs]


def test_the_container_says_where_data_and_model_are(by_hpo):
    place, log = by_hpo
    assert sorted(path.relative_to(place).as_posix() for path in place.rglob("*.*")) == [
        "model/model.json", "model/model.pth",
        "output/findings.json", "output/metrics.json", "output/record/record.jsonl", "output/report.html",
    ]  # fmt: skip
    assert len(TEST_ACCURACY.read(log)) == 1 and len(VALID_LOSS.read(log)) == 3, "two epochs, and the best again at the end"


def test_the_last_validation_loss_in_the_log_is_that_of_the_saved_model(by_hpo):
    place, log = by_hpo
    saved = json.loads((place / "model" / "model.json").read_text())["trained"]["metrics"]["validation:loss"]
    assert VALID_LOSS.read(log)[-1] == pytest.approx(saved) == min(VALID_LOSS.read(log))


def test_both_doors_run_where_importing_an_aws_library_raises(by_hpo, by_ec2train):
    for _, log in (by_hpo, by_ec2train):
        assert "model saved to " in log


def test_both_doors_give_the_same_weights_tensor_by_tensor(by_hpo, by_ec2train):
    one, other = (model.read_weights(place / "model") for place, _ in (by_hpo, by_ec2train))
    assert list(one) == list(other)
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_two_processes_with_a_frozen_backbone_end_where_one_does(tiny_sample, weights_file, tmp_path):
    for own in ("one/0", "two/0", "two/1"):
        (tmp_path / own).mkdir(parents=True)
        shutil.copy(weights_file, tmp_path / own / "w.pth")
    torch.save(model.build(TrainConfig(weights="none", seed=5), 9)[0].state_dict(), tmp_path / "two/1/w.pth")  # what rank 0 has counts
    words = flags(**QUICK | {"weights": "w.pth", "freeze": "backbone", "batch_size": 7}, data=tiny_sample)
    alone, (first, second) = train_on(1, words, tmp_path / "one"), train_on(2, words, tmp_path / "two")
    losses = [json.loads((tmp_path / name / "0/output/metrics.json").read_text())["metrics"] for name in ("one", "two")]
    for name in ("train:loss", "validation:loss", "test:loss"):
        assert abs(losses[0][name] - losses[1][name]) < 1e-4
    assert "1 process, on cpu" in alone[0] and "2 processes joined (gloo)" in first and "equal on 2 processes" in first
    assert "loss" not in second, "one process speaks"
    assert [path.name for path in (tmp_path / "two" / "1").iterdir()] == ["w.pth"], "one process writes"


def test_torchrun_trains_one_whole_network_together(tiny_sample, tmp_path):
    words = flags(**QUICK, data=tiny_sample, model_dir=tmp_path / "model", output_dir=tmp_path / "output")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(ROOT / "hpo.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 processes joined (gloo)" in done.stdout and "equal on 2 processes" in done.stdout
    assert model.load(tmp_path / "model").description["trained"]["processes"] == 2


@pytest.mark.parametrize(
    "spoil, settings, said",
    [
        (shutil.rmtree, {}, "does not exist"),
        (lambda d: (shutil.rmtree(d), d.mkdir()), {}, "is empty"),
        (lambda d: shutil.rmtree(d / "valid"), {}, "has no valid/"),
        (lambda d: shutil.rmtree(d / "test" / "001.Affenpinscher"), {}, "class 001.Affenpinscher is missing in"),
        (lambda d: (d / "train/001.Affenpinscher/half.jpg").write_bytes(b"\xff\xd8\xff\xe0"), {}, "half.jpg"),
        (lambda d: (d / "train/001.Affenpinscher/notes.jpg").write_text("no image"), {}, "notes.jpg"),
        (lambda d: None, {"batch_size": 0}, "batch_size must be at least 1, not 0"),
        (lambda d: None, {"arch": "resnet19"}, "unknown arch 'resnet19'"),
        (lambda d: None, {"weights": "WEIGHTS", "arch": "resnet50"}, "backbone.pth does not fit resnet50"),
    ],
    ids=["missing", "empty", "no-valid", "class", "truncated", "text", "batch_size", "arch", "weights"],
)
def test_bad_input_ends_with_one_sentence_and_exit_code_2(spoil, settings, said, tiny_sample, weights_file, tmp_path, monkeypatch, capsys):
    folder = shutil.copytree(tiny_sample, tmp_path / "data")
    spoil(folder)
    (tmp_path / "sm").mkdir()
    monkeypatch.setenv("SM_OUTPUT_DIR", str(tmp_path / "sm"))
    settings = QUICK | {name: weights_file if value == "WEIGHTS" else value for name, value in settings.items()}
    with pytest.raises(SystemExit) as ended:
        hpo.main(flags(**settings, data=folder, model_dir=tmp_path / "model", output_dir=tmp_path / "output"))
    sentence = capsys.readouterr().err
    assert ended.value.code == 2 and said in sentence and sentence.count("\n") == 1
    assert (tmp_path / "sm" / "failure").read_text() in sentence
    assert not (tmp_path / "model").exists()


def test_a_disk_without_space_for_the_model_is_one_sentence_and_exit_code_2(tiny_sample, tmp_path):
    words = " ".join(flags(**QUICK, data=tiny_sample, model_dir=tmp_path / "small" / "model", output_dir=tmp_path / "output"))
    (tmp_path / "small").mkdir()
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("this system lets nobody mount a small disk (unshare -rm)")
    script = f"mount -t tmpfs -o size=20m small small && exec {sys.executable} {ROOT / 'hpo.py'} {words}"
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "hpo.py: error: there is no space left in" in done.stderr and "46 MB are needed and 21 MB are free" in done.stderr


def test_what_nobody_expected_keeps_its_traceback_and_reaches_the_failure_file(tiny_sample, tmp_path, monkeypatch):
    def evaluate(*parts):
        raise ZeroDivisionError("by nobody")

    monkeypatch.setattr(loop, "evaluate", evaluate)
    monkeypatch.setenv("SM_OUTPUT_DIR", str(tmp_path))
    with pytest.raises(ZeroDivisionError):
        hpo.main(flags(**QUICK, data=tiny_sample, model_dir=tmp_path / "model", output_dir=tmp_path / "output"))
    text = (tmp_path / "failure").read_text()
    assert text.startswith("ZeroDivisionError: by nobody\n") and "Traceback" in text


def test_the_constants_of_ec2train_are_the_settings_of_trainconfig():
    import ec2train

    assert TrainConfig(**ec2train.constants()) == TrainConfig()


@pytest.mark.parametrize("door, lines", [("hpo.py", 80), ("ec2train.py", 60)])
def test_a_door_is_short(door, lines):
    assert len((ROOT / door).read_text().splitlines()) <= lines


@pytest.mark.parametrize("door", ["hpo.py", "ec2train.py"])
def test_real_photographs_run_end_to_end(door, real_photos, tmp_path):
    log = finish(start(door, flags(**QUICK | {"epochs": 1, "batch_size": 32}, data=real_photos), tmp_path))
    assert 0 <= TEST_ACCURACY.read(log)[0] <= 1
    assert "Welsh_springer_spaniel" in model.load(tmp_path / "model").description["classes"]
