"""Changes to other people's modules, made once such a module is imported and not before: an import costs seconds, and may never come.

Standard library only, and nothing of opml: ``client_path/sitecustomize.py`` loads this file into the kernels of people who have their own
environment.
"""

from __future__ import annotations  # people's Python may be older than ours

import importlib.machinery
import sys
from collections.abc import Callable
from types import ModuleType


class Watcher:
    """Waits for the import of one module; finds nothing itself."""

    def __init__(self, name: str, change: Callable[[ModuleType], None]):
        self._name, self._change = name, change

    def find_spec(self, name: str, path=None, target=None):
        """The ordinary spec, whose loader changes the module when it is done; None for every other module."""
        if name != self._name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module
            spec.loader.exec_module = lambda module: (run(module), self._change(module))
        return spec


def once_imported(name: str, change: Callable[[ModuleType], None]) -> None:
    """Call ``change`` with the module: now, if it has been imported, or as soon as it is."""
    if name in sys.modules:
        change(sys.modules[name])
    else:
        sys.meta_path.insert(0, Watcher(name, change))
