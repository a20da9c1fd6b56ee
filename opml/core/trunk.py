"""The part of the network that is not trained: cut off, folded, and in the fastest precision that the processor really has."""

import copy
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

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
        self.network = fold(trunk, device, self.dtype)

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            inputs = images.to_input(pixels.to(self.device, non_blocking=True), self.numbers)
            features = self.network(inputs.to(self.dtype)).float()
        return features.clone()  # a tensor of inference mode could not be learned from


def output_shape(trunk: nn.Sequential, side: int) -> tuple[int, ...]:
    """The shape of what a trunk of a ResNet makes of one image: its stem halves the side twice, each later stage once more."""
    channels = [module for module in trunk.modules() if isinstance(module, nn.Conv2d)][-1].out_channels
    if hasattr(trunk, "flatten"):
        return (channels,)
    for _ in range(1 + sum(name.startswith("layer") for name, _ in trunk.named_children())):
        side = (side + 1) // 2
    return channels, side, side


def fold(trunk: nn.Module, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> nn.Module:
    """A copy in evaluation mode with each batch norm folded into the convolution before it; equal to about 1e-6 of the largest value.

    Layer by layer: besides the trunk and its folded copy nothing is held.
    """
    shared = {id(tensor): tensor for tensor in (*trunk.parameters(), *trunk.buffers())}  # deepcopy takes these as they are
    folded = copy.deepcopy(trunk, shared).eval()
    for parent in list(folded.modules()):
        before = None
        for name, child in list(parent.named_children()):  # in a ResNet each batch norm follows its convolution, by name too
            if isinstance(child, nn.BatchNorm2d) and isinstance(before, nn.Conv2d):
                _take_in(before, child, device, dtype)
                setattr(parent, name, nn.Identity())
            before = child
    return folded


@torch.no_grad()
def _take_in(conv: nn.Conv2d, norm: nn.BatchNorm2d, device: torch.device | str, dtype: torch.dtype) -> None:
    """Give a convolution the weights that do the work of both."""
    both = (conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
    weight, bias = fuse_conv_bn_weights(*both)
    conv.weight = nn.Parameter(weight.to(device, dtype, memory_format=torch.channels_last), requires_grad=False)
    conv.bias = nn.Parameter(bias.to(device, dtype), requires_grad=False)


def fastest_precision(device: torch.device) -> str:
    """The precision of a frozen trunk: bfloat16 where this machine computes natively in it, which is measured, else float32.

    A GPU is asked instead: those before compute capability 8.0 have float16 only.
    """
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float16"
    with one_thread():
        times = [(_seconds("float32"), _seconds("bfloat16")) for _ in range(5)]  # in turn: what else the machine does hits both
    return "bfloat16" if min(t for t, _ in times) > NATIVE * min(t for _, t in times) else "float32"


@torch.inference_mode()
def _seconds(precision: str) -> float:
    """The time of a convolution of a ResNet's middle."""
    layer = nn.Conv2d(128, 128, 3, padding=1).to(DTYPES[precision], memory_format=torch.channels_last)
    inputs = torch.ones(1, 128, 28, 28, dtype=DTYPES[precision]).to(memory_format=torch.channels_last)
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
