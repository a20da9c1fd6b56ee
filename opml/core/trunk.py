"""The part of the network that is not trained: cut off, folded, and in the fastest precision that the processor really has."""

import copy
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from opml.core import images

NATIVE = 1.2  # bfloat16 counts as native where it is at least so many times faster than float32: emulated it is slower
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def cut(network: nn.Module, freeze: str) -> tuple[nn.Sequential, nn.Sequential]:
    """Trunk and tail of a torchvision ResNet: what ``freeze`` (backbone, layer3 ...) keeps as it is, and what is trained.

    Both share their modules, and the names of them, with the network: training the tail trains the network.
    """
    children = list(network.named_children())
    names = [name for name, _ in children]
    end = names.index("fc") if freeze == "backbone" else names.index(freeze) + 1
    children.insert(names.index("fc"), ("flatten", nn.Flatten(1)))
    end += freeze == "backbone"  # the vectors, not the 1 x 1 pictures
    return nn.Sequential(OrderedDict(children[:end])), nn.Sequential(OrderedDict(children[end:]))


class Trunk:
    """A frozen trunk, ready to compute: pixels [n, side, side, 3] in, features [n, ...] out, float32.

    Batch norm in evaluation mode is a scale and a shift; folded into the convolution before it it costs nothing. The network that
    the trunk was cut from is not changed.
    """

    def __init__(self, trunk: nn.Module, numbers: dict, device: torch.device, precision: str):
        self.numbers, self.device, self.dtype = numbers, device, DTYPES[precision]
        self.shape = output_shape(trunk, numbers["image_size"])  # of the features of one image
        self.network = fold(trunk).to(device, self.dtype, memory_format=torch.channels_last)

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            inputs = images.to_input(pixels.to(self.device, non_blocking=True), self.numbers)
            features = self.network(inputs.to(self.dtype)).float()
        return features.clone()  # a tensor of inference mode could not be learned from


def output_shape(trunk: nn.Module, side: int) -> tuple[int, ...]:
    """The shape of what a trunk makes of one image, found without computing it."""
    state = {name: tensor.to("meta") for name, tensor in trunk.state_dict().items()}
    trunk.eval()
    with torch.no_grad():
        return tuple(torch.func.functional_call(trunk, state, torch.empty(1, 3, side, side, device="meta")).shape[1:])


def fold(trunk: nn.Module) -> nn.Module:
    """A copy in evaluation mode with each batch norm folded into its convolution; equal to about 1e-6 of the largest value."""
    folded = copy.deepcopy(trunk).eval().requires_grad_(False)
    for parent in list(folded.modules()):
        before, last = None, ""
        for name, child in list(parent.named_children()):  # in a ResNet each batch norm follows its convolution, by name too
            if isinstance(child, nn.BatchNorm2d) and isinstance(before, nn.Conv2d):
                setattr(parent, last, fuse_conv_bn_eval(before, child))
                setattr(parent, name, nn.Identity())
            before, last = child, name
    return folded


def fastest_precision(device: torch.device) -> str:
    """The precision of a frozen trunk: bfloat16 where this machine computes natively in it, which is measured, else float32."""
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float16"
    with one_thread():
        times = [(_seconds("float32"), _seconds("bfloat16")) for _ in range(8)]  # in turn: what else the machine does hits both
    return "bfloat16" if min(t for t, _ in times) > NATIVE * min(t for _, t in times) else "float32"


@torch.inference_mode()
def _seconds(precision: str) -> float:
    """The time of a convolution of a ResNet's middle."""
    layer = nn.Conv2d(128, 128, 3, padding=1).to(DTYPES[precision], memory_format=torch.channels_last)
    inputs = torch.ones(4, 128, 28, 28, dtype=DTYPES[precision]).to(memory_format=torch.channels_last)
    layer(inputs)
    started = time.perf_counter()
    layer(inputs)
    return time.perf_counter() - started


@contextmanager
def one_thread() -> Iterator[None]:
    """Let each operation use one thread only: sums are then made in one order, whatever the machine, to the last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
