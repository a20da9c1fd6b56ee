"""Read by every Python of a shell that ``python -m opml local env`` turned to the local AWS: tunes the SageMaker SDK as it is imported.

People's notebooks know nothing of opml, and their Python may not have it: this file and ``sdk.py`` beside its folder are all that it needs.
"""

import importlib.machinery
import importlib.util
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
SESSION = "sagemaker.session"


class Watcher:
    """Waits for the import of the SDK's session; finds nothing itself."""

    def find_spec(self, name, path=None, target=None):
        """The ordinary spec, whose loader tunes the module when it is done; None for every other module."""
        if name != SESSION:
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module
            spec.loader.exec_module = lambda module: (run(module), tune(module))
        return spec


def tune(session):
    """Tune the SDK if the environment still points to a local AWS."""
    spec = importlib.util.spec_from_file_location("_opml_local_sdk", os.path.join(os.path.dirname(HERE), "sdk.py"))
    sdk = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sdk)
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
    if endpoint.startswith(sdk.LOOPBACK):
        sdk.tune(session, sys.modules["sagemaker.utils"], endpoint)


def run_the_next():
    """Run the ``sitecustomize`` that this one hides, as distributions and coverage tools have it."""
    others = [folder for folder in sys.path if os.path.abspath(folder) != HERE]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


sys.meta_path.insert(0, Watcher())
run_the_next()
