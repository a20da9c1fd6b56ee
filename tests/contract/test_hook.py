"""smdebug's hook in our training job: missing, broken, or facing a stale folder, the job trains on and says so in one line."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from opml import rules
from opml.core import hook
from opml.core.sample import make_sample
from opml.core.sources import read_smdebug

ROOT = Path(__file__).parents[2]
TRAIN = """
import sys
{before}
from opml.core.config import TrainConfig
from opml.core.train import fit
fit(TrainConfig.from_args())
"""
BREAK_WRITES = """
import smdebug.core.tfevent.util as util
def refuse(*_, **__):
    raise AttributeError("'numpy.ndarray' object has no attribute 'tostring'")
util.make_tensor_proto = refuse
import smdebug.core.tfevent.event_file_writer as writer
writer.make_tensor_proto = refuse
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A tiny sample."""
    return make_sample(tmp_path_factory.mktemp("tiny") / "data", classes=2, train=4, valid=2, test=2, image_size=32)


def train(data, place, before="", config=None, epochs=1):
    """Train in a process of its own; what it printed. The job must succeed."""
    config = config or hook.write_configuration(place, losses=1, gradients=1)
    flags = {"data": data, "model_dir": place / "model", "output_dir": place / "output", "weights": "none", "image_size": 32}
    flags |= {"epochs": epochs, "batch_size": 4}
    command = [sys.executable, "-c", TRAIN.format(before=before), *(w for k, v in flags.items() for w in (f"--{k}", str(v)))]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "SMDEBUG_LOG_LEVEL": "error", "SMDEBUG_CONFIG_FILE_PATH": str(config)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (place / "model" / "model.pth").exists()
    return [line for line in done.stdout.splitlines() if line.startswith("smdebug")]


def test_a_hook_that_works_saves_and_says_nothing_of_itself(data, tmp_path):
    assert train(data, tmp_path) == []
    assert len(list(tmp_path.glob("tensors/index/*/*.json"))) == 4  # two of training, one of validation, one of the test
    assert (tmp_path / "tensors" / "training_job_end.ts").exists() and not (tmp_path / "tensors" / "claim.smd").exists()


def test_our_configuration_saves_inputs_to_relu_once_a_phase_and_each_loss(data, tmp_path):
    aws = SimpleNamespace(uri=lambda *parts: "s3://bucket/debug")
    request = rules.hook_config(aws, train_interval=1)._to_request_dict() | {"LocalPath": str(tmp_path / "tensors")}
    (tmp_path / "hook.json").write_text(json.dumps(request))
    assert train(data, tmp_path, config=tmp_path / "hook.json", epochs=3) == []
    record = read_smdebug(tmp_path / "tensors")
    saved = {name: sum(record.has(name, step) for step in record.steps()) for name in record.names()}
    assert {saved[name] for name in record.names("relu_input")} == {3}  # training, validation, test
    assert saved["CrossEntropyLoss_output_0"] == 3 * 2 + 3 + 1


def test_without_smdebug_the_job_trains_and_says_what_to_install(data, tmp_path):
    (said,) = train(data, tmp_path, before="sys.modules['smdebug'] = None")
    assert said.startswith("smdebug's hook is off: smdebug cannot be imported (ModuleNotFoundError") and "smdebug==1.0.34" in said


def test_a_numpy_that_smdebug_cannot_write_with_is_seen_before_training(data, tmp_path):
    before = "import opml.core.hook as hook, types; hook.np = types.SimpleNamespace(ndarray=object, __version__='2.3.0')"
    (said,) = train(data, tmp_path, before=before)
    assert "numpy 2.3.0 has no ndarray.tostring" in said and '"numpy<2.3"' in said


def test_a_hook_that_breaks_while_training_is_said_once_and_the_job_goes_on(data, tmp_path):
    (said,) = train(data, tmp_path, before=BREAK_WRITES, epochs=2)
    assert said.startswith("smdebug has failed and saves nothing more (AttributeError: 'numpy.ndarray' object has no attribute 'tostring')")


@pytest.mark.parametrize("left", ["claim.smd", "training_job_end.ts"])
def test_a_folder_that_would_be_left_empty_in_silence_is_refused(data, tmp_path, left):
    (tmp_path / "tensors").mkdir()
    (tmp_path / "tensors" / left).touch()
    (said,) = train(data, tmp_path)
    assert f"tensors/{left} was left there" in said and "empty that folder" in said


def test_intervals_longer_than_the_job_are_no_silent_empty_trial(data, tmp_path):
    config = hook.write_configuration(tmp_path)
    content = json.loads(config.read_text())
    for collection in content["CollectionConfigurations"]:
        collection["CollectionParameters"] = {"include_regex": "relu_input$|^gradient|Loss", "save_interval": "500", "start_step": "400"}
    config.write_text(json.dumps(content))
    (said,) = train(data, tmp_path, config=config)
    assert said.startswith("smdebug saved nothing in") and "save intervals" in said


def test_a_configuration_that_cannot_be_read_is_named(data, tmp_path):
    (tmp_path / "hook.json").write_text("{")
    (said,) = train(data, tmp_path, config=tmp_path / "hook.json")
    assert "hook.json is no hook configuration" in said


def test_without_a_configuration_smdebug_is_not_even_imported(data, tmp_path):
    before = "import atexit; atexit.register(lambda: print('smdebug' if 'smdebug' in sys.modules else 'clean'))"
    assert train(data, tmp_path, before=before, config=tmp_path / "none.json") == []
