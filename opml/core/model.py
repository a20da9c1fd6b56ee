"""The network and the artefact: build, save, load. This module owns the file names and what stands in them."""

import errno
import http.client
import json
import os
import pickle
import platform
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision

from opml.core.config import ARCHITECTURES, BadConfig, TrainConfig
from opml.core.files import write_text, write_whole

WEIGHTS_FILE, DESCRIPTION_FILE = "model.pth", "model.json"
METRICS_FILE = "metrics.json"
DOWNLOAD_TIMEOUT = 5.0  # seconds without an answer; an instance without a way out must not wait for minutes


@dataclass(frozen=True)
class Artefact:
    """A trained network, ready to predict, and its description: architecture, classes, preprocessing, trained."""

    model: torch.nn.Module
    description: dict


def build(config: TrainConfig, classes: int) -> tuple[torch.nn.Module, str | None]:
    """The network with a new last layer for ``classes``, and where its weights come from (None: from the seed alone).

    Raises
    ------
    BadConfig : the named weights cannot be had or do not fit.
    """
    torch.manual_seed(config.seed)
    model = torchvision.models.get_model(config.arch, weights=None, num_classes=classes)
    if config.init == "uneven":
        _make_uneven(model)
    if config.weights == "none":
        return model, None
    if config.weights in ("auto", "imagenet"):
        state, source = imagenet_weights(config.arch, needed=config.weights == "imagenet"), "ImageNet"
    else:
        state, source = read_weights(config.weights), config.weights
    if state is None:
        return model, None
    _put(state, model, f"the weights file {source}", config.arch)
    return model, source


def _make_uneven(model: torch.nn.Module) -> None:
    """Make every second block's batch-norm scales 8 times too large: layers begin with very different variances."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".1.bn" in name and name.endswith("weight"):
                parameter *= 8


def imagenet_weights(arch: str, needed: bool) -> dict[str, torch.Tensor] | None:
    """torchvision's weights, from torch's cache or downloaded into it; None if they cannot be had and are not ``needed``."""
    url = torchvision.models.get_model_weights(arch).DEFAULT.url
    try:
        with _socket_timeout(DOWNLOAD_TIMEOUT):
            return torch.hub.load_state_dict_from_url(url, map_location="cpu", check_hash=True, progress=False, weights_only=True)
    except (OSError, RuntimeError, http.client.HTTPException, pickle.UnpicklingError) as error:
        if not needed:
            return None
        raise BadConfig(
            f"the ImageNet weights of {arch} cannot be had ({error}): allow access to {url}, put that file into "
            f"{torch.hub.get_dir()}/checkpoints, or choose --weights none"
        ) from error


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def read_weights(path: str | Path) -> dict[str, torch.Tensor]:
    """A state dictionary from a file that ``torch.save`` wrote, or from the folder of an artefact.

    Raises
    ------
    BadConfig : there is no such file, or it is something else; it is never unpickled as code.
    """
    file = Path(path) / WEIGHTS_FILE if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise BadConfig(f"there is no weights file {file}: name one with --weights, or use auto, imagenet or none")
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # the reader of a file that is something else raises whatever it meets: IndexError, UnpicklingError ...
        raise BadConfig(f"the weights file {file} cannot be read as a state dictionary of torch.save") from error
    if not isinstance(state, dict) or not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise BadConfig(f"the weights file {file} holds no state dictionary (names and tensors): save model.state_dict()")
    return state


def _put(state: dict[str, torch.Tensor], model: torch.nn.Module, what: str, arch: str) -> None:
    """Copy weights into the network; a last layer made for another number of classes is left out."""
    own = model.state_dict()
    if any(name in state and state[name].shape != own[name].shape for name in ("fc.weight", "fc.bias")):
        state = {name: value for name, value in state.items() if not name.startswith("fc.")}
    own = {name: value for name, value in own.items() if not name.endswith("num_batches_tracked")}  # old files have none
    for name, value in own.items():
        if name not in state and not name.startswith("fc."):
            raise BadConfig(f"{what} does not fit {arch}: it has no {name}; name another with --weights, or the --arch it was made for")
        if name in state and state[name].shape != value.shape:
            there, here = list(state[name].shape), list(value.shape)
            raise BadConfig(f"{what} does not fit {arch}: {name} is {there} there and {here} here; name the --arch it was made for")
    for name in state:
        if name not in model.state_dict():
            raise BadConfig(f"{what} does not fit {arch}: {arch} has no {name}; name the --arch it was made for")
    model.load_state_dict(state, strict=False)


def save(model_dir: str | Path, state: dict[str, torch.Tensor], description: dict) -> None:
    """Write the artefact; each file is there as a whole or not at all.

    Parameters
    ----------
    state : the weights, on any device.
    description : architecture, classes (breeds in class order), preprocessing, trained.

    Raises
    ------
    BadConfig : no space, or no permission.
    """
    with _writing(model_dir) as folder:
        # The weights first: a folder with a description has weights.
        write_whole(folder / WEIGHTS_FILE, lambda file: torch.save({name: value.cpu().contiguous() for name, value in state.items()}, file))
        write_text(folder / DESCRIPTION_FILE, json.dumps(description, indent=2))


@contextmanager
def _writing(folder: str | Path) -> Iterator[Path]:
    """Say in one sentence why a folder cannot be written to."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        yield Path(folder)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BadConfig(
                f"there is no space left in {folder} for the model: free some, or name another folder with --model_dir"
            ) from error
        raise BadConfig(f"the model cannot be written to {folder} ({error.strerror or error}): name another with --model_dir") from error


def versions() -> dict[str, str]:
    """What the model was trained with."""
    return {"python": platform.python_version(), "torch": torch.__version__, "torchvision": torchvision.__version__}


def write_metrics(output_dir: str | Path, content: dict) -> None:
    """``metrics.json``: one row an epoch, and the end; there as a whole or not at all.

    Raises
    ------
    BadConfig : it cannot be written.
    """
    try:
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        write_text(Path(output_dir, METRICS_FILE), json.dumps(content, indent=2))
    except OSError as error:
        raise BadConfig(f"the metrics cannot be written to {output_dir} ({error.strerror or error}): name another --output_dir") from error


def state_bytes(model: torch.nn.Module) -> int:
    """The size of the weights file, nearly, in bytes."""
    return sum(value.numel() * value.element_size() for value in model.state_dict().values())


def check_space(folder: str | Path, flag: str, need: int) -> None:
    """Find out before training, not after it, that ``need`` bytes could not be written to ``folder``, which ``flag`` names.

    Raises
    ------
    BadConfig : they could not.
    """
    place = Path(folder).absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise BadConfig(f"nothing can be written to {folder} ({place} is no folder one may write to): name another with --{flag}")
    need, free = need + 2**20, shutil.disk_usage(place).free
    if free < need:
        sizes = f"{need / 1e6:.0f} MB are needed and {free / 1e6:.0f} MB are free"
        raise BadConfig(f"there is no space left in {folder}: {sizes}; free some, or name another folder with --{flag}")


def load(model_dir: str | Path) -> Artefact:
    """Read an artefact; the network is in evaluation mode, on the CPU.

    Raises
    ------
    BadConfig : a file is missing, unreadable or does not fit the other.
    """
    file = Path(model_dir) / DESCRIPTION_FILE
    try:
        description = json.loads(file.read_text())
        arch, classes = description["architecture"], len(description["classes"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadConfig(f"{model_dir} holds no model that opml saved: {DESCRIPTION_FILE} is missing or damaged") from error
    if arch not in ARCHITECTURES:
        raise BadConfig(f"{file} names an unknown architecture {arch!r}: choose one of {', '.join(ARCHITECTURES)}")
    model = torchvision.models.get_model(arch, weights=None, num_classes=classes)
    state = read_weights(Path(model_dir))
    if "fc.weight" not in state or len(state["fc.weight"]) != classes:
        raise BadConfig(f"{Path(model_dir) / WEIGHTS_FILE} does not fit {file}: its last layer is not for {classes} classes")
    _put(state, model, str(Path(model_dir) / WEIGHTS_FILE), arch)
    return Artefact(model.eval(), description)
