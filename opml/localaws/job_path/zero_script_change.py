"""Registers what a script does not register with smdebug's hook, as AWS's PyTorch containers 1.3 to 1.11 did with a changed torch.nn.

The first outermost module with parameters that is called is the model (torchvision's transforms are modules too, without parameters), and
a loss module is registered at its first call. A script may have made the hook itself, and registered the model, the loss, both or nothing:
what it registered is not touched. Whatever goes wrong, the script trains on, and one line says what is off.
"""

import importlib.util
import os

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
        from smdebug.pytorch import get_hook

        self._hook = get_hook() or self._new_hook(get_hook)
        self._model = module
        if not self._hook.has_registered_module:
            self._hook.register_module(module)

    @staticmethod
    def _new_hook(get_hook):
        hook = get_hook(create_if_not_exists=True)
        if hook is None:
            raise RuntimeError(f"no hook could be made of {CONFIG}")
        hook.has_default_configuration = lambda: True  # errors are logged and end the saving, never the training
        return hook

    def _register_loss(self, module) -> None:
        if self._model is None or id(module) in self._losses:
            return
        if self._losses or not self._hook.has_registered_loss_module:
            self._losses.add(id(module))
            self._hook.register_loss(module)
