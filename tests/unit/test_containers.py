"""What is said and done about the image of a job or an endpoint."""

import pytest

from opml.localaws import containers

REGISTRY = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
OLD, NEW = {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}, {}
FAILED = [
    'Downloading: "https://download.pytorch.org/models/resnet50-0676ba61.pth" to /w/hub/checkpoints/resnet50-0676ba61.pth',
    "Traceback (most recent call last):",
    "urllib.error.URLError: <urlopen error [Errno -3] Temporary failure in name resolution>",
]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("pytorch-training:1.4.0-cpu-py3", OLD), ("pytorch-inference:1.12-gpu-py38", OLD), ("pytorch-training:2.5.1-gpu-py311", OLD),
        ("sagemaker-pytorch:1.0-cpu-py3", OLD), ("pytorch-training:2.6.0-cpu-py312", NEW), ("pytorch-training:2.12-cpu-py312", NEW),
        ("my-own-image:latest", NEW), ("", NEW),
    ],
)  # fmt: skip
def test_whole_models_load_where_the_images_torch_loaded_them(image, expected):
    assert containers.environment(f"{REGISTRY}/{image}") == expected


def test_the_log_names_the_versions_of_the_image_and_ours():
    (line,) = containers.log_lines(f"{REGISTRY}/pytorch-training:1.8.0-cpu-py36")
    assert line.startswith("local AWS: the image has PyTorch 1.8 and Python 3.6; this runs with PyTorch 2.")
    assert "Python 3;" not in containers.log_lines("pytorch-training:1.4.0-cpu-py3")[0]
    assert containers.log_lines("scratch:1") == []


def test_missing_weights_are_named_with_the_file_to_save():
    hint = containers.missing_weights(FAILED)
    assert "Save https://download.pytorch.org/models/resnet50-0676ba61.pth as /w/hub/checkpoints/resnet50-0676ba61.pth" in hint


def test_other_failures_are_not_blamed_on_weights():
    assert containers.missing_weights(FAILED[:2]) is None  # downloading may have succeeded
    assert containers.missing_weights(FAILED[1:]) is None  # another address: the script's own affair
