"""The model server as a process, without a server of AWS around it: the contract of the four handlers."""

import io
import json

import numpy
import pytest

from opml.localaws import settings as settings_module
from opml.localaws.instances import Instance, InvocationTimedOut, StartFailed

CONTEXT = """
import time

def model_fn(model_dir, context):
    return {"context": context}

def input_fn(data, content_type, context):
    return data

def predict_fn(data, model, context):
    time.sleep(5 if data == "slow" else 0)
    return [model["context"] is context, type(data).__name__]
"""
BOTH = "def transform_fn(*a): pass\ndef input_fn(*a): pass\ndef model_fn(d): pass"


@pytest.fixture
def serve(tmp_path_factory, monkeypatch):
    """Start an instance for a source text (and files of the model folder); all are stopped at the end."""
    monkeypatch.setattr(settings_module.settings, "root", tmp_path_factory.mktemp("r"))
    instances = []

    def start(source: str | None, prepare=None) -> Instance:
        code = settings_module.settings.root / "code"
        code.mkdir()
        if source is not None:
            (code / "inference.py").write_text(source)
        if prepare:
            prepare(code)
        instances.append(Instance("dogs", "AllTraffic", {"Environment": {"SAGEMAKER_SUBMIT_DIRECTORY": str(code)}}, {}))
        instances[-1].wait_ready()
        return instances[-1]

    yield start
    for instance in instances:
        instance.stop()


def ask(instance: Instance, body: bytes, content_type: str = "application/json", accept: str = "application/json", seconds: float = 30.0):
    return instance.request(body, {"Content-Type": content_type, "Accept": accept}, seconds)


def test_handlers_may_take_a_context_and_leave_the_rest_to_the_defaults(serve):
    instance = serve(CONTEXT)
    assert json.loads(ask(instance, b"x", "text/csv").body) == [True, "str"]
    assert json.loads(ask(instance, b"x", "text/plain").body) == [True, "bytes"]


def test_the_first_type_of_accept_that_can_be_written_is_written(serve):
    reply = ask(serve(CONTEXT), b"x", accept="image/png, text/csv;q=0.5")
    assert (reply.headers["Content-Type"], reply.body) == ("text/csv", b"True,str\n")


def test_a_type_nobody_can_write_is_a_415(serve):
    reply = ask(serve(CONTEXT), b"x", accept="image/png")
    assert reply.status == 415
    assert reply.body.startswith(b"Content type image/png is not supported by this framework.")


def test_an_answer_that_takes_too_long_is_given_up_and_the_instance_lives_on(serve):
    instance = serve(CONTEXT.replace("time.sleep(5", "time.sleep(1"))
    with pytest.raises(InvocationTimedOut):
        ask(instance, b"slow", "text/csv", seconds=0.2)
    assert ask(instance, b"quick", "text/csv").status == 200


def test_a_transform_function_beside_the_other_three_does_not_start(serve):
    with pytest.raises(StartFailed, match="did not pass the ping health check"):
        serve(BOTH)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch.jit is on its way out, and still what AWS's container loads
def test_a_torchscript_model_is_served_by_the_defaults(serve):
    import torch

    def save(code):
        torch.jit.script(torch.nn.Flatten(0)).save(str(code.parent / "any.pt"))
        text = f"import shutil, os\nshutil.copy({str(code.parent / 'any.pt')!r}, os.environ['SM_MODEL_DIR'])\n"
        (code / "inference.py").write_text(text)

    instance = serve(None, save)
    assert json.loads(ask(instance, b"[[1, 2], [3, 4]]").body) == [1.0, 2.0, 3.0, 4.0]
    assert json.loads(ask(instance, b"1,2\n3,4", "text/csv").body) == [1.0, 2.0, 3.0, 4.0]
    assert ask(instance, b"GIF", "image/gif").status == 415


TRAINING = """
import torch

def model_fn(model_dir):
    return torch.nn.BatchNorm1d(1).train()
"""


def test_an_array_comes_back_in_double_precision_as_from_the_toolkit(serve):
    reply = ask(serve(TRAINING), b"[[2], [4]]", accept="application/x-npy")
    assert numpy.load(io.BytesIO(reply.body)).dtype == numpy.float64


def test_the_default_prediction_is_of_a_model_in_evaluation_mode(serve):
    instance = serve(TRAINING)
    reply = ask(instance, b"[[2], [4]]")  # of this batch, training mode would make -1 and 1
    assert json.loads(reply.body) == [[pytest.approx(2, abs=0.01)], [pytest.approx(4, abs=0.01)]]


def test_a_working_folder_whose_path_is_too_long_for_a_socket_is_named(serve, monkeypatch, tmp_path):
    monkeypatch.setattr(settings_module.settings, "root", tmp_path / ("x" * 90))
    settings_module.settings.root.mkdir()
    with pytest.raises(StartFailed, match="too long for a socket"):
        serve(CONTEXT)
