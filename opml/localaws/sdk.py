"""What the SageMaker SDK is told while it talks to the local AWS: no waiting, STS at the given address, the role of a notebook instance.

Standard library only, and nothing of opml: ``client_path/sitecustomize.py`` loads this file into the kernels of people who have their own
environment. The modules to change are handed in.
"""

import logging
import time
import types
from types import ModuleType

SPEED = 20.0  # seconds of the SDK's waiting that pass in one real second; it polls every 5, 10 or 30 of its seconds
NOTEBOOK_ROLE = "AmazonSageMaker-ExecutionRole-Notebook"  # the part after this prefix is the day of its making, on AWS
LOOPBACK = ("http://127.0.0.1:", "http://localhost:")
OWNER = (":root", ":user/moto")  # how STS calls the account's owner: on AWS, and in moto
TUNED = "_tuned_for_local_aws"
UNTRUE = {  # logger -> how a line begins that AWS's notebooks do not show (where an address was found), or that is not so: none is sent
    "botocore.configprovider": "Found endpoint for ",
    "sagemaker.telemetry.telemetry_logging": "SageMaker Python SDK will collect telemetry",
}


def tune(session: ModuleType, utils: ModuleType, endpoint_url: str) -> None:
    """Four changes of ``sagemaker.session`` and ``sagemaker.utils`` in this process, and lines of a log left out; the last address counts.

    The SDK sleeps 5 to 30 seconds before it looks at a job for the first time, and calls a hard-coded regional address for STS, whatever
    ``AWS_ENDPOINT_URL`` says. It names tuning jobs by the minute, which is long here: running a cell again would be refused, as the name
    is taken. And ``get_execution_role`` knows a role on a notebook instance only, so for the owner of the account it is on one.
    """
    session.sts_regional_endpoint = lambda _region: endpoint_url
    if getattr(session, TUNED, False):
        return
    setattr(session, TUNED, True)
    utils.sagemaker_short_timestamp = fine_timestamp
    session.time = scaled_clock(SPEED)
    session.Session.get_caller_identity_arn = _on_a_notebook_instance(session.Session.get_caller_identity_arn)
    for name in UNTRUE:
        logging.getLogger(name).addFilter(is_worth_a_line)


def is_worth_a_line(record: logging.LogRecord) -> bool:
    """Whether a notebook is to show a line of a log that is filtered here."""
    return not str(record.msg).startswith(UNTRUE[record.name])


def _on_a_notebook_instance(asked):
    """``get_caller_identity_arn`` that answers an account's owner as the SDK does on a notebook instance: with the instance's role."""

    def get_caller_identity_arn(self) -> str:
        caller = self.boto_session.client("sts").get_caller_identity()
        if caller["Arn"].endswith(OWNER):
            return notebook_role(caller["Account"])
        return asked(self)

    return get_caller_identity_arn


def notebook_role(account: str) -> str:
    """The ARN of the role that notebooks written for an instance run with."""
    return f"arn:aws:iam::{account}:role/service-role/{NOTEBOOK_ROLE}"


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
