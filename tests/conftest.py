"""Shared by all tests. unit/ opens no socket; contract/ runs real toolkits; functional/ runs the local AWS; notebooks/ reads notebooks."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("SAGEMAKER_SUPPRESS_V2_WARNING", "1")
os.environ.setdefault("SMDEBUG_LOG_LEVEL", "warning")
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]


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
