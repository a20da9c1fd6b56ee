"""Current Deep Learning AMIs and the SSM parameters that name the latest of each: descriptions only, nothing boots from them.

Names as AWS publishes them; moto has two images of 2017. Dates are those seen in public release notes in the autumn of 2026.
"""

import hashlib
from typing import NamedTuple

from moto.ec2.models import amis
from moto.ssm import models as ssm

PREFIX = "/aws/service/deeplearning/ami/"
SYSTEMS = {"ubuntu-24.04": "Ubuntu 24.04", "ubuntu-22.04": "Ubuntu 22.04", "amazon-linux-2023": "Amazon Linux 2023"}


class Image(NamedTuple):
    """One Deep Learning AMI."""

    torch: str | None  # version of PyTorch; None: the base image, drivers only
    system: str
    date: str
    architecture: str = "x86_64"

    @property
    def name(self) -> str:
        """The AMI's name."""
        arm = "ARM64 " if self.architecture == "arm64" else ""
        if self.torch is None:
            return f"Deep Learning {arm}Base OSS Nvidia Driver GPU AMI ({SYSTEMS[self.system]}) {self.date}"
        return f"Deep Learning {arm}OSS Nvidia Driver AMI GPU PyTorch {self.torch} ({SYSTEMS[self.system]}) {self.date}"

    @property
    def id(self) -> str:
        """Made of the name, so that it is always the same."""
        return "ami-" + hashlib.sha256(self.name.encode()).hexdigest()[:17]

    @property
    def parameter(self) -> str:
        """The SSM parameter that names the latest of its kind."""
        kind = f"oss-nvidia-driver-gpu-pytorch-{self.torch}" if self.torch else "base-oss-nvidia-driver-gpu"
        return f"{PREFIX}{self.architecture}/{kind}-{self.system}/latest/ami-id"


IMAGES = (
    Image("2.12", "ubuntu-24.04", "20260827"),
    Image("2.11", "amazon-linux-2023", "20260905"),
    Image("2.11", "ubuntu-24.04", "20260905"),
    Image("2.10", "amazon-linux-2023", "20260919"),
    Image("2.7", "ubuntu-22.04", "20260827"),
    Image("2.7", "amazon-linux-2023", "20260827"),
    Image("2.11", "ubuntu-24.04", "20261003", "arm64"),
    Image("2.10", "ubuntu-22.04", "20261003", "arm64"),
    Image(None, "ubuntu-22.04", "20260919"),
    Image(None, "ubuntu-24.04", "20260919"),
    Image(None, "amazon-linux-2023", "20260919"),
)


def _described(image: Image) -> dict:
    """As moto keeps its own."""
    return {
        "ami_id": image.id, "state": "available", "public": True, "owner_id": amis.AMIS[0]["owner_id"], "name": image.name,
        "image_location": f"amazon/{image.name}", "description": image.name, "image_type": "machine", "platform": None,
        "architecture": image.architecture, "virtualization_type": "hvm", "hypervisor": "xen", "sriov": "simple",
        "root_device_type": "ebs", "root_device_name": "/dev/sda1",
        "creation_date": f"{image.date[:4]}-{image.date[4:6]}-{image.date[6:]}T00:00:00.000Z",
    }  # fmt: skip


def _loading(check):
    """moto loads AWS's public parameters when their path is first asked for; ours join in."""

    def load(self, key: str) -> None:
        check(self, key)
        if str(key or "").startswith("/aws/service/deeplearning") and not getattr(self, "deep_learning_loaded", False):
            self.deep_learning_loaded = True
            for image in IMAGES:
                dict.__setitem__(self, image.parameter, [_parameter(self, image)])

    load.knows_deep_learning = True
    return load


def _parameter(store, image: Image):
    return ssm.Parameter(
        account_id=store.account_id, name=image.parameter, value=image.id, parameter_type="String", description=None, allowed_pattern=None,
        keyid=None, last_modified_date=0, version=1, data_type="aws:ec2:image",
    )  # fmt: skip


def install() -> None:
    """Add them; a second call changes nothing. Call before moto's first EC2 or SSM backend exists."""
    known = {ami["ami_id"] for ami in amis.AMIS}
    amis.AMIS.extend(_described(image) for image in IMAGES if image.id not in known)
    if not hasattr(ssm.ParameterDict._check_loading_status, "knows_deep_learning"):
        ssm.ParameterDict._check_loading_status = _loading(ssm.ParameterDict._check_loading_status)
