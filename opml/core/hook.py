"""smdebug's hook, where the job has a configuration of it: registered, watched, and never trusted to fail aloud.

SageMaker writes the configuration (``debughookconfig.json``) for jobs with a DebuggerHookConfig; smdebug itself is in AWS's PyTorch images
up to 2.0 only. Whatever is wrong with it, the job trains on and says in one line what is off and what to do.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from opml.core.config import TrainConfig
from opml.core.hook_collections import collections
from opml.core.observer import Observer
from opml.core.records import EVAL, PREDICT, TRAIN

CONFIG_VARIABLE, CONFIG_FILE = "SMDEBUG_CONFIG_FILE_PATH", "/opt/ml/input/config/debughookconfig.json"
TENSORS = "/opt/ml/output/tensors"  # smdebug's default for LocalPath
SWITCHED_OFF = ("0", "OFF", "NO", "FALSE")  # values of USE_SMDEBUG
LOSS = "CrossEntropyLoss"  # recorded as CrossEntropyLoss_output_0, as if the module of that name had been registered
PINS = 'smdebug==1.0.34, protobuf==3.20.3 and "numpy<2.3"'
INSTEAD = "our recorder (--record) needs none of it"


class HookOff(Exception):
    """The hook cannot work; the message says what is off and what to do."""


def configuration() -> Path | None:
    """The hook's configuration file, if this job has one and smdebug is not switched off."""
    path = Path(os.environ.get(CONFIG_VARIABLE, CONFIG_FILE))
    switched_off = os.environ.get("USE_SMDEBUG", "").upper() in SWITCHED_OFF
    return path if path.is_file() and not switched_off else None


def observer(say: Callable[[str], Any]) -> Observer | None:
    """The hook as an observer, if this job has a configuration of it and it can work; else why not is said."""
    path = configuration()
    if path is None:
        return None
    try:
        return SmdebugHook(path, say)
    except HookOff as reason:
        say(f"smdebug's hook is off: {reason}")
        return None


def write_configuration(folder: str | Path, **intervals: int) -> Path:
    """Write a ``debughookconfig.json`` into ``folder``, by which tensors go into ``folder/tensors``.

    Parameters
    ----------
    intervals : those of :func:`opml.core.hook_collections.collections`.
    """
    listed = [{"CollectionName": name, "CollectionParameters": each} for name, each in collections(**intervals).items()]
    path = Path(folder) / "debughookconfig.json"
    path.write_text(json.dumps({"LocalPath": str(Path(folder) / "tensors"), "CollectionConfigurations": listed}, indent=2))
    return path


class SmdebugHook(Observer):
    """smdebug's hook, told of a job's steps. It sees what runs through the network, so all of it must run in each step.

    Raises
    ------
    HookOff : it cannot work, and would have said nothing.
    """

    whole = True

    def __init__(self, config: Path, say: Callable[[str], Any] = print):
        self.say, self.folder = say, _tensors_folder(config)
        self._ear = _Ear()
        smdebug, self._agent = _import(self._ear)
        _check_folder(self.folder)
        try:
            self._hook = smdebug.get_hook(json_config_path=str(config), create_if_not_exists=True)
            self._modes = smdebug.modes
        except Exception as error:  # whatever smdebug makes of a configuration that it does not like
            raise HookOff(f"it does not take {config} ({error}): correct the hook's parameters") from error
        if self._hook is None:
            raise HookOff(f"smdebug made no hook of {config}{self._ear.heard()}: {INSTEAD}")
        self._dead = False
        self._hook.has_default_configuration = lambda: True  # else an error inside a layer's hook would end the training
        backward_hook = self._hook.backward_hook  # smdebug does not guard these itself
        self._hook.backward_hook = lambda name: self._guarded(backward_hook(name))

    def start(self, config: TrainConfig, model: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: tuple[int, int]) -> None:
        for module in model.modules():
            if isinstance(module, torch.nn.ReLU):
                module.inplace = False  # smdebug looks after the layer has run: in place, its "input" would be its output
        self._tell(lambda: self._hook.register_module(model))

    def phase(self, name: str) -> None:
        self._tell(lambda: self._hook.set_mode(self._modes[{"train": TRAIN, "eval": EVAL, "test": PREDICT}[name]]))

    def forward(self, loss: torch.Tensor) -> None:
        self._tell(lambda: self._hook.record_tensor_value(LOSS, loss))

    def end(self, final: dict[str, float] | None) -> None:
        self._tell(lambda: self._hook.close())
        saved = sum(1 for _ in self.folder.glob("index/*/*.json"))
        if not saved and not self._dead:
            self.say(f"smdebug saved nothing in {self.folder}{self._ear.heard()}: its save intervals may be longer than the job")

    def _guarded(self, back: Callable[[torch.Tensor], Any]) -> Callable[[torch.Tensor], None]:
        return lambda gradient: self._tell(lambda: back(gradient))

    def _tell(self, what: Callable[[], Any]) -> None:
        """Training does not end because smdebug does."""
        if self._dead:
            return
        try:
            what()
        except Exception as error:
            self._ear.last = f"{type(error).__name__}: {error}"
        else:
            if not self._agent.disable_smdebug:
                return
        self._dead = self._agent.disable_smdebug = True
        self.say(f"smdebug has failed and saves nothing more{self._ear.heard()}: install {PINS}, or leave the hook away, {INSTEAD}")


class _Ear(logging.Handler):
    """Remembers the last error that smdebug swallowed."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self.last = f"{type(error).__name__}: {error}" if error else self.last or record.getMessage()

    def heard(self) -> str:
        return f" ({self.last})" if self.last else ""


def _import(ear: _Ear):
    """smdebug's module for PyTorch, and the agent that swallows its errors."""
    os.environ.setdefault("SMDEBUG_LOG_LEVEL", "error")  # it prints a line for each parameter otherwise
    try:
        import smdebug.pytorch as smdebug
        from smdebug.core.error_handling_agent import ErrorHandlingAgent
    except Exception as error:  # a broken installation raises anything: its protobuf's TypeError, a missing distutils
        reason = f"smdebug cannot be imported ({type(error).__name__}: {error})"
        raise HookOff(f"{reason}: put {PINS} into requirements.txt; {INSTEAD}") from error
    logging.getLogger("smdebug").addHandler(ear)
    if not hasattr(np.ndarray, "tostring"):
        raise HookOff(f"numpy {np.__version__} has no ndarray.tostring, by which smdebug writes: install {PINS}; {INSTEAD}")
    return smdebug, ErrorHandlingAgent.get_error_handling_agent()


def _tensors_folder(config: Path) -> Path:
    try:
        return Path(json.loads(config.read_text()).get("LocalPath") or TENSORS)
    except (OSError, ValueError, AttributeError) as error:
        raise HookOff(f"{config} is no hook configuration ({error}): {INSTEAD}") from error


def _check_folder(folder: Path) -> None:
    """smdebug saves nothing, silently, into a folder that another job left its marks in."""
    for name, left in (("claim.smd", "by a process that was killed"), ("training_job_end.ts", "at the end of another job")):
        if (folder / name).exists():
            raise HookOff(
                f"{folder}/{name} was left there {left}, and smdebug would save nothing: empty that folder, or set another LocalPath"
            )
