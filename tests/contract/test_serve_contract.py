"""The serving handlers, as a model server finds and calls them."""

import io
import json
import subprocess
import sys

import pytest
import torch
from doors import ROOT
from PIL import Image

from opml.core import batches, data, model, serve
from opml.core.config import TrainConfig
from opml.core.serve import RequestError, input_fn, model_fn, output_fn, predict_fn


@pytest.fixture(scope="module")
def artefact(tmp_path_factory):
    """An untrained network for 7 breeds, saved as training saves it."""
    place, config = tmp_path_factory.mktemp("artefact"), TrainConfig(weights="none", image_size=32)
    numbers = data.images.preprocessing(32)
    description = {"architecture": "resnet18", "classes": list(data.BREEDS[:7]), "preprocessing": numbers, "trained": {}}
    model.save(place, model.build(config, 7)[0].state_dict(), description)
    return place


def photo(kind="JPEG", size=(70, 50)):
    body = io.BytesIO()
    Image.new("RGB", size, (200, 120, 40)).save(body, kind)
    return body.getvalue()


def answer(artefact, body, content_type="image/jpeg"):
    text, kind = output_fn(predict_fn(input_fn(body, content_type), model_fn(str(artefact))), "application/json")
    assert kind == "application/json"
    return json.loads(text)


def test_an_answer_has_all_logits_and_the_five_most_probable_breeds(artefact):
    got = answer(artefact, photo())
    (logits,), (ranked,) = got["logits"], got["predictions"]
    wanted = torch.tensor(logits).softmax(0).sort(descending=True)
    assert len(logits) == 7 and [row["breed"] for row in ranked] == [data.BREEDS[i] for i in wanted.indices[:5]]
    assert [row["probability"] for row in ranked] == pytest.approx(wanted.values[:5].tolist())


def test_serving_sees_a_picture_as_validation_does(artefact, tiny_sample):
    path, _ = data.check_folder(tiny_sample).files["valid"][0]
    numbers = data.images.preprocessing(32)
    validation = data.images.to_input(batches.Photos([(path, 0)], numbers).pixels(0)[None], numbers)[0]
    loaded = model_fn(str(artefact))
    with torch.inference_mode():
        wanted = loaded.model(validation[None])[0].tolist()
    assert answer(artefact, path.read_bytes())["logits"][0] == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("content_type", ["image/jpeg", "image/png", "application/x-image", "IMAGE/JPEG; q=1"])
def test_the_content_types_of_images_are_taken(content_type):
    assert input_fn(photo(), content_type).mode == "RGB"


@pytest.mark.parametrize(
    "body, content_type, status",
    [
        (b'{"url": "http://169.254.169.254/latest/meta-data/"}', "application/json", 415),
        (b"http://127.0.0.1/dog.jpg", "text/uri-list", 415),
        (photo(), None, 415),
        (b"GIF89a", "image/jpeg", 415),
        (photo()[:200], "image/jpeg", 422),
        (photo("PNG", (8001, 10)), "image/png", 413),
        (b"\xff" * (serve.MAX_BODY + 1), "image/jpeg", 413),
    ],
    ids=["url", "uri-list", "no-type", "gif", "truncated", "sides", "bytes"],
)
def test_what_cannot_be_answered_gets_a_status_and_a_sentence(body, content_type, status):
    with pytest.raises(RequestError) as refused:
        input_fn(body, content_type)
    assert refused.value.status_code == status and refused.value.phrase and refused.value.message
    assert "/" not in refused.value.message.replace("image/", "").replace("application/", ""), "no path of the server"


def test_an_answer_in_another_format_is_refused():
    with pytest.raises(RequestError) as refused:
        output_fn({"logits": [[0.0]]}, "text/csv")
    assert refused.value.status_code == 406


@pytest.mark.parametrize("accept", ["application/json", "*/*", "", None, "text/html, application/json;q=0.9"])
def test_json_is_given_to_whoever_takes_it(accept):
    assert output_fn({"logits": [[0.5]]}, accept) == ('{"logits": [[0.5]]}', "application/json")


def test_a_server_that_imports_the_door_by_its_base_name_finds_the_handlers(artefact, tmp_path):
    # What the inference toolkit does: the folder of the code on the path, import_module(base name), four attributes.
    program = f"""
import importlib, io, sys
sys.path.insert(0, {str(ROOT)!r})
door = importlib.import_module("hpo")
import ec2train
assert not hasattr(door, "transform_fn") and not {{"sagemaker", "boto3"}} & set(sys.modules)
loaded = getattr(door, "model_fn")({str(artefact)!r})
picture = getattr(door, "input_fn")({photo()!r}, "image/jpeg")
print(getattr(door, "output_fn")(getattr(door, "predict_fn")(picture, loaded), "application/json")[0])
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(json.loads(done.stdout)["predictions"][0]) == 5, "and importing the doors printed nothing"
    assert list(tmp_path.iterdir()) == []
