"""What a client process needs beside the credentials to talk to the local AWS: a clean environment, and an SDK that does not wait."""

import os
import time
import types
from collections.abc import MutableMapping
from pathlib import Path

from opml.localaws.lifecycle import LocalAws

SDK_CONFIG = Path(__file__).with_name("sagemaker-sdk.yaml")
SPEED = 20.0  # seconds of the SDK's waiting that pass in one real second; it polls every 5, 10 or 30 of its seconds
# Settings of the user that would lead a request away from the local AWS, or sign it with other credentials.
MISLEADING = ("AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")
LOOPBACK = ("127.0.0.1", "localhost")  # never asked of a proxy


def is_misleading(name: str) -> bool:
    """Whether an environment variable must not be set while the local AWS is used."""
    return name in MISLEADING or name.startswith("AWS_ENDPOINT_URL_")


def settings_for(local: LocalAws, environ: MutableMapping[str, str]) -> dict[str, str]:
    """Variables of a process that uses the local AWS: credentials and endpoint, no telemetry, no proxy on loopback."""
    proxies = [name for name in environ.get("NO_PROXY", environ.get("no_proxy", "")).split(",") if name]
    without = ",".join([*proxies, *(name for name in LOOPBACK if name not in proxies)])
    sdk = {"SAGEMAKER_USER_CONFIG_OVERRIDE": str(SDK_CONFIG), "SAGEMAKER_SUPPRESS_V2_WARNING": "1"}
    return {**local.env(), **sdk, "NO_PROXY": without, "no_proxy": without}


def apply(local: LocalAws, environ: MutableMapping[str, str] = os.environ) -> None:
    """Turn an environment to the local AWS."""
    for name in [name for name in environ if is_misleading(name)]:
        del environ[name]
    environ.update(settings_for(local, environ))


def tune_sdk(local: LocalAws) -> None:
    """Three changes of the SageMaker SDK in this process: a faster clock for polling, STS at the given endpoint, finer tuning job names.

    The SDK sleeps 5 to 30 seconds before it looks at a job for the first time (``sagemaker.session``), and calls a hard-coded regional
    address for STS, whatever ``AWS_ENDPOINT_URL`` says. It names tuning jobs by the minute, which is long here: running a cell again
    would be refused, as the name is taken.
    """
    import sagemaker.session
    import sagemaker.utils

    sagemaker.utils.sagemaker_short_timestamp = fine_timestamp
    sagemaker.session.time = scaled_clock(SPEED)
    sagemaker.session.sts_regional_endpoint = lambda _region: local.endpoint_url


def fine_timestamp() -> str:
    """The SDK's short time stamp, to the hundredth of a second; its names have room for 32 characters and shorten what stands before."""
    now = time.time()
    return time.strftime("%y%m%d-%H%M%S", time.localtime(now)) + f"{int(now * 100) % 100:02d}"


def scaled_clock(speed: float) -> types.SimpleNamespace:
    """The ``time`` module with a ``sleep`` and a ``time`` that run ``speed`` times as fast; all else as it is."""
    began = time.time()
    clock = types.SimpleNamespace(**{name: value for name, value in vars(time).items() if not name.startswith("__")})
    clock.sleep = lambda seconds: time.sleep(seconds / speed)
    clock.time = lambda: began + (time.time() - began) * speed
    return clock
