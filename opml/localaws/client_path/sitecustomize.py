"""Read by every Python of a shell that ``python -m opml local env`` turned to the local AWS: fits what notebooks import to it.

People's notebooks know nothing of opml, and their Python may not have it: this file and three beside its folder are all that it needs.
"""

import importlib.machinery
import importlib.util
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def load(name):
    """One of the files beside this folder, as a module of no package."""
    spec = importlib.util.spec_from_file_location(f"_opml_local_{name}", os.path.join(os.path.dirname(HERE), f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tune(session):
    """Tune the SDK if the environment still points to a local AWS."""
    sdk, endpoint = load("sdk"), os.environ.get("AWS_ENDPOINT_URL", "")
    if endpoint.startswith(sdk.LOOPBACK):
        sdk.tune(session, sys.modules["sagemaker.utils"], endpoint)


def run_the_next():
    """Run the ``sitecustomize`` that this one hides, as distributions and coverage tools have it."""
    others = [folder for folder in sys.path if os.path.abspath(folder) != HERE]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


imports = load("imports")
imports.once_imported("sagemaker.session", tune)
load("charts").mend_when_imported(imports.once_imported)
run_the_next()
