"""Registers smdebug's hook for a script that knows nothing of it, as AWS's PyTorch containers 1.3 to 1.11 did with a changed torch.nn.

The first outermost module with parameters that is called is the model (torchvision's transforms are modules too, without parameters), and
a loss module is registered at its first call. Whatever goes wrong, the script trains on, and one line says what is off.
"""

import importlib.util
import os
import sys

CONFIG = os.environ.get("SMDEBUG_CONFIG_FILE_PATH", "/opt/ml/input/config/debughookconfig.json")
PINS = 'smdebug==1.0.34 protobuf==3.20.3 "numpy<2.3"'


def install(nn) -> None:
    """Watch the calls of modules, unless it is known already that nothing could be saved."""
    if not os.path.exists(CONFIG):
        return
    if wrong := obstacle():
        say(wrong)
    else:
        nn.Module.__call__ = Watch(nn).wrap(nn.Module.__call__)


def obstacle() -> str | None:
    """Why smdebug would save nothing here, and what to do about it; None if it can."""
    if importlib.util.find_spec("smdebug") is None:
        return f"smdebug is not installed: add {PINS} to requirements.txt"
    import numpy

    if not hasattr(numpy.ndarray, "tostring"):
        return f"smdebug cannot write with numpy {numpy.__version__}: pin {PINS}"
    import json

    with open(CONFIG) as file:
        folder = json.load(file).get("LocalPath", "/opt/ml/output/tensors")
    if os.path.exists(claim := os.path.join(folder, "claim.smd")):
        return f"{claim} was left by a process that was killed, and smdebug writes nothing beside it: remove it, or save elsewhere"
    return None


def say(what: str) -> None:
    """One line in the job's log."""
    print(f"local AWS: Debugger saves no tensors of this job: {what}", flush=True)


class Watch:
    """What one process has registered so far."""

    def __init__(self, nn):
        self._loss = nn.modules.loss._Loss
        self._pid, self._inside, self._off = os.getpid(), False, False
        self._hook, self._model, self._losses = None, None, set()

    def wrap(self, call):
        """``Module.__call__`` that looks at outermost calls first."""

        def watched(module, *inputs, **options):
            if self._inside or self._off:
                return call(module, *inputs, **options)
            self._inside = True
            try:
                self._look(module)
                return call(module, *inputs, **options)
            finally:
                self._inside = False

        return watched

    def _look(self, module) -> None:
        try:
            if os.getpid() != self._pid:  # a loader's process
                self._off = True
            elif isinstance(module, self._loss):
                self._register_loss(module)
            elif self._model is None and next(module.parameters(), None) is not None:
                self._register_model(module)
        except Exception as error:  # smdebug's affair, not the script's
            self._off = True
            say(f"{type(error).__name__}: {error}")

    def _register_model(self, module) -> None:
        if "smdebug" in sys.modules:  # the script has a hook of its own
            self._off = True
            return
        import smdebug.pytorch

        self._hook = smdebug.pytorch.get_hook(create_if_not_exists=True)
        if self._hook is None:
            raise RuntimeError(f"no hook could be made of {CONFIG}")
        self._hook.has_default_configuration = lambda: True  # errors are logged and end the saving, never the training
        self._hook.register_module(module)
        self._model = module

    def _register_loss(self, module) -> None:
        if self._model is not None and id(module) not in self._losses:
            self._losses.add(id(module))
            self._hook.register_loss(module)
