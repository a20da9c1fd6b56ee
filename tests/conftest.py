"""Shared by all tests. unit/ opens no socket; contract/ runs real toolkits; functional/ runs the local AWS; notebooks/ reads notebooks."""

import gc
import os
import signal
from pathlib import Path

import pytest

os.environ.setdefault("SAGEMAKER_SUPPRESS_V2_WARNING", "1")
os.environ.setdefault("SMDEBUG_LOG_LEVEL", "warning")
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Who starts the tests with nohup, or in a script's background, has these signals ignored, and every process of ours would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

FOR_TESTS = ("OPML_DOGS10", "OPML_KILLS")

ROOT = Path(__file__).resolve().parents[1]


def pytest_configure(config):
    """Forget the user's AWS account and local AWS, unless the tests against real AWS are asked for: no other test may reach either."""
    if "real_aws" in config.getoption("markexpr"):
        return
    for name in [name for name in os.environ if name.startswith(("AWS_", "OPML_")) and name not in FOR_TESTS]:
        del os.environ[name]
    os.environ.update(AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull, AWS_EC2_METADATA_DISABLED="true")


def pytest_collection_finish():
    """Torch, moto and the SDK are half a million objects: looking through them for garbage again and again took a third of the time."""
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


@pytest.fixture(scope="session")
def tiny_sample(tmp_path_factory) -> Path:
    """A generated data folder of 3 breeds, 6 + 2 + 2 images each, 40 pixels a side. Read it, never change it."""
    from opml.core.sample import make_sample

    return make_sample(tmp_path_factory.mktemp("data") / "tiny", classes=3, train=6, valid=2, test=2, image_size=40)


@pytest.fixture(scope="session")
def real_photos() -> Path:
    """Real photographs of ten breeds, where this machine has them."""
    folder = Path(os.environ.get("OPML_DOGS10", ROOT.parent / "shared" / "data" / "dogs10"))
    if not folder.is_dir():
        pytest.skip("no real photographs here: OPML_DOGS10 names no folder, and none lies in shared/data/dogs10 beside the checkout")
    return folder
