"""AWS's deep learning containers: which ones we run in, and until when they are patched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from opml.errors import BadInput

if TYPE_CHECKING:
    from opml.aws import Aws


@dataclass(frozen=True)
class Image:
    """An AWS deep learning container: the day its patches end (ISO date) is the day to move on."""

    purpose: str  # training or inference
    version: str  # of PyTorch
    python: str
    end_of_patch: str

    def tag(self, accelerator: str) -> str:
        """The image's tag, for example 2.12-cpu-py312."""
        return f"{self.version}-{accelerator}-{self.python}"


# Read 2026-11-20 in AWS's support policy. There is no PyTorch inference image after 2.6.
IMAGES: tuple[Image, ...] = (
    Image("training", "2.12", "py312", "2027-07-02"),
    Image("inference", "2.6.0", "py312", "2026-06-30"),
)
KNOWN_TO_SDK = {"training": "2.8.0", "inference": "2.6.0"}  # the newest versions whose registry SDK 2.257 can name


def image_for(purpose: str) -> Image:
    """The image of ``training`` or ``inference``."""
    return next(image for image in IMAGES if image.purpose == purpose)


def image_uri(aws: Aws, purpose: str = "training", accelerator: str = "cpu") -> str:
    """The container image of training or inference in the account's region.

    The SDK knows the registry of each region but not the newest versions: its answer for a version it knows is kept up to
    the tag.

    Raises
    ------
    BadInput
        Another purpose or accelerator than training/inference, cpu/gpu.
    """
    from sagemaker import image_uris

    if purpose not in KNOWN_TO_SDK or accelerator not in ("cpu", "gpu"):
        raise BadInput(f"no image for {purpose!r} on {accelerator!r}: choose training or inference, cpu or gpu")
    image = image_for(purpose)
    instance = {"cpu": "ml.m5.large", "gpu": "ml.g4dn.xlarge"}[accelerator]
    known = image_uris.retrieve(
        "pytorch", aws.region, version=KNOWN_TO_SDK[purpose], py_version="py312", instance_type=instance, image_scope=purpose
    )
    return f"{known.rpartition(':')[0]}:{image.tag(accelerator)}"


def accelerator_of(instance_type: str) -> str:
    """``gpu`` for instance types of the g and p families, else ``cpu``."""
    return "gpu" if instance_type.startswith(("ml.g", "ml.p")) else "cpu"
