"""What a client process needs beside the credentials to talk to the local AWS: a clean environment, and an SDK that does not wait."""

import os
from collections.abc import MutableMapping
from pathlib import Path

from opml.localaws import charts, imports, sdk
from opml.localaws.lifecycle import LocalAws

SDK_CONFIG = Path(__file__).with_name("sagemaker-sdk.yaml")
CLIENT_PATH = Path(__file__).with_name("client_path")  # its sitecustomize does the same for processes that do not know opml
# Settings of the user that would lead a request away from the local AWS, or sign it with other credentials.
MISLEADING = ("AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")
LOOPBACK = ("127.0.0.1", "localhost")  # never asked of a proxy


def is_misleading(name: str) -> bool:
    """Whether an environment variable must not be set while the local AWS is used."""
    return name in MISLEADING or name.startswith("AWS_ENDPOINT_URL_")


def settings_for(local: LocalAws, environ: MutableMapping[str, str]) -> dict[str, str]:
    """Variables of a process that uses the local AWS: credentials and endpoint, a tuned SDK, no telemetry, no proxy on loopback."""
    proxies = [name for name in environ.get("NO_PROXY", environ.get("no_proxy", "")).split(",") if name]
    without = ",".join([*proxies, *(name for name in LOOPBACK if name not in proxies)])
    path = [folder for folder in environ.get("PYTHONPATH", "").split(os.pathsep) if folder and folder != str(CLIENT_PATH)]
    tuned = {"SAGEMAKER_USER_CONFIG_OVERRIDE": str(SDK_CONFIG), "SAGEMAKER_SUPPRESS_V2_WARNING": "1"}
    tuned["PYTHONPATH"] = os.pathsep.join([str(CLIENT_PATH), *path])
    return {**local.env(), **tuned, "NO_PROXY": without, "no_proxy": without}


def apply(local: LocalAws, environ: MutableMapping[str, str] = os.environ) -> None:
    """Turn an environment to the local AWS."""
    for name in [name for name in environ if is_misleading(name)]:
        del environ[name]
    environ.update(settings_for(local, environ))


def tune_sdk(local: LocalAws) -> None:
    """Make the SageMaker SDK of this process fit for the local AWS, and smdebug's charts for bokeh 3: see ``sdk.tune``, ``charts.mend``."""
    import sagemaker.session
    import sagemaker.utils

    sdk.tune(sagemaker.session, sagemaker.utils, local.endpoint_url)
    charts.mend_when_imported(imports.once_imported)
