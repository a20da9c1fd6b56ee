"""Training on one EC2 instance: which one, how it would be launched, what it does, and the same done on this machine.

Nothing here launches an instance: :func:`launch_request` returns arguments that botocore has checked, and they are not sent.
"""

from __future__ import annotations

import dataclasses
import shlex
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from botocore.validate import ParamValidator

from opml import costs, machine
from opml.core.config import TrainConfig
from opml.core.metrics import read_history
from opml.errors import BadInput, OpmlError

if TYPE_CHECKING:
    from opml.aws import Aws

# Public parameters of the Systems Manager name the newest image; EC2 resolves them itself at launch.
CPU_IMAGE = "resolve:ssm:/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
GPU_IMAGE = "resolve:ssm:/aws/service/deeplearning/ami/x86_64/oss-nvidia-driver-gpu-pytorch-2.12-ubuntu-24.04/latest/ami-id"
# Families that the Deep Learning AMI supports (release notes of 2026-09-07). t2, t3 and m5, the usual choices, are not among them.
DLAMI_FAMILIES = ("g4dn", "g5", "g6", "gr6", "gr6f", "g6e", "g6f", "p4d", "p4de", "p5", "p5e", "p5en", "p6")
BURSTABLE = ("t2", "t3")
USER_DATA_LIMIT = 16384  # bytes


def instances() -> pd.DataFrame:
    """The candidates, cheapest first: vCPU, memory, GPU, price, whether the Deep Learning AMI supports them, and a note."""
    rows = []
    for name, price in costs.PRICES.items():
        family = name.partition(".")[0]
        if family != "ml":
            rows.append(
                {
                    "instance": name,
                    "vCPU": price.vcpu,
                    "memory (GiB)": price.memory_gib,
                    "GPU": family.startswith(("g", "p")),
                    "USD/hour": price.usd_hour,
                    "burstable": family in BURSTABLE,
                    "Deep Learning AMI": family in DLAMI_FAMILIES,
                    "note": price.use,
                }
            )
    return pd.DataFrame(rows).set_index("instance").sort_values("USD/hour")


def choose_instance(
    budget_usd_hour: float = 0.25, *, vcpu: int = 4, memory_gib: int = 8, gpu: bool = False, burstable: bool = False
) -> str:
    """The cheapest instance type that has enough and fits the budget.

    Burstable types (t2, t3) are left out unless asked for: training keeps every core busy for the whole time, which is what
    their CPU credits do not cover.

    Parameters
    ----------
    budget_usd_hour : float
        At most so much, USD an hour, on demand.
    vcpu, memory_gib : int
        At least so many.

    Raises
    ------
    BadInput
        No candidate fits; names the cheapest that has enough.
    """
    table = instances()
    enough = table[(table["vCPU"] >= vcpu) & (table["memory (GiB)"] >= memory_gib) & (table["GPU"] == gpu)]
    enough = enough if burstable else enough[~enough["burstable"]]
    if enough.empty:
        raise BadInput(f"no candidate has {vcpu} vCPU, {memory_gib} GiB{' and a GPU' if gpu else ''}: see opml.ec2.instances()")
    best = enough.index[0]
    if enough.loc[best, "USD/hour"] > budget_usd_hour:
        raise BadInput(f"{budget_usd_hour} USD/hour is too little: the cheapest that has enough is {best} at {costs.hourly(best)}")
    return best


def user_data(aws: Aws, config: TrainConfig | None = None, *, hours: float = 2.0) -> str:
    """The script the instance runs once, as its administrator: fetch, train, upload, shut down. It holds no secret.

    The first command limits the time, so that a hang cannot bill for ever; whatever happens, the log is uploaded and the
    instance shuts down, which with the launch request's behaviour means it is terminated.

    Raises
    ------
    BadInput
        A time that is not positive, or a script over EC2's 16 kB.
    """
    if not hours > 0:
        raise BadInput(f"hours must be above 0, not {hours}")
    flags = shlex.join(_flags(config or TrainConfig(), data="data", model_dir="model", output_dir="output"))
    script = USER_DATA.format(
        minutes=max(1, round(hours * 60)),
        region=shlex.quote(aws.region),
        code=shlex.quote(aws.uri("code", "ec2")),
        data=shlex.quote(aws.uri("data")),
        result=shlex.quote(aws.uri("ec2")),
        flags=flags,
    )
    if len(script.encode()) > USER_DATA_LIMIT:
        raise BadInput(f"the start script has {len(script.encode())} bytes, EC2 takes {USER_DATA_LIMIT}: shorten the settings")
    return script


USER_DATA = """#!/bin/bash
set -euo pipefail
shutdown -h +{minutes}  # the watchdog: a hang is bounded
export AWS_DEFAULT_REGION={region}
RESULT={result}
trap 'aws s3 cp --only-show-errors /var/log/cloud-init-output.log "$RESULT/log.txt" || true; shutdown -h now' EXIT

mkdir -p /opt/opml && cd /opt/opml
aws s3 cp --only-show-errors --recursive {code} .
aws s3 cp --only-show-errors --recursive {data} data

PY=/opt/pytorch/bin/python  # of the Deep Learning AMI
if [ ! -x "$PY" ]; then
  dnf install --quiet --assumeyes python3.11 python3.11-pip
  python3.11 -m venv venv && PY=venv/bin/python
  "$PY" -m pip install --quiet torch torchvision numpy pillow
fi
"$PY" ec2train.py {flags}

aws s3 cp --only-show-errors --recursive model "$RESULT/model"
aws s3 cp --only-show-errors --recursive output "$RESULT/output"
"""


def launch_request(
    aws: Aws, instance_type: str, config: TrainConfig | None = None, *, hours: float = 2.0, volume_gb: int | None = None, spot: bool = False
) -> dict:
    """Arguments of ``run_instances`` for one instance that trains and then removes itself; checked against EC2's model, not sent.

    No key pair and no way in; metadata only with a session token (IMDSv2), one hop; an encrypted disk that goes with the
    instance; shutting down means terminating (EC2's default, stopping, goes on billing the disk).

    Parameters
    ----------
    hours : float
        After that long the instance shuts down, finished or not.
    volume_gb : int, optional
        Size of the disk, GB. Default: 30, or 100 with the Deep Learning AMI.
    spot : bool
        Ask for spare capacity: half the price or less, may be taken away.

    Raises
    ------
    BadInput
        An instance type that is not in the table, or a request that does not fit EC2's model.
    """
    if instance_type.startswith("ml."):
        raise BadInput(f"{instance_type!r} is a SageMaker type: EC2's has no 'ml.', use {instance_type.removeprefix('ml.')!r}")
    costs.price(instance_type)  # refuses a type without a price
    gpu = bool(instances().loc[instance_type, "GPU"])
    disk = {"VolumeType": "gp3", "VolumeSize": volume_gb or (100 if gpu else 30), "Encrypted": True, "DeleteOnTermination": True}
    tags = [*aws.tags, {"Key": "Name", "Value": aws.name("ec2-train")}]
    request = {
        "ImageId": GPU_IMAGE if gpu else CPU_IMAGE,
        "InstanceType": instance_type,
        "MinCount": 1,
        "MaxCount": 1,
        "IamInstanceProfile": {"Name": aws.name("ec2-train")},
        "InstanceInitiatedShutdownBehavior": "terminate",
        "MetadataOptions": {"HttpEndpoint": "enabled", "HttpTokens": "required", "HttpPutResponseHopLimit": 1},
        "BlockDeviceMappings": [{"DeviceName": "/dev/sda1" if gpu else "/dev/xvda", "Ebs": disk}],
        "TagSpecifications": [{"ResourceType": kind, "Tags": tags} for kind in ("instance", "volume")],
        "UserData": user_data(aws, config, hours=hours),
    }
    if spot:
        request["InstanceMarketOptions"] = {"MarketType": "spot", "SpotOptions": {"SpotInstanceType": "one-time"}}
    return _checked(aws, request)


def _checked(aws: Aws, request: dict) -> dict:
    shape = aws.client("ec2").meta.service_model.operation_model("RunInstances").input_shape
    report = ParamValidator().validate(request, shape)
    if report.has_errors():
        raise BadInput(f"EC2 would refuse this launch: {report.generate_report()}")
    return request


# --- the same, here ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CompletedRun:
    """A training run that ended well: how long it took, what it printed, its last metrics, where the model is."""

    seconds: float
    log: list[str]
    metrics: dict[str, float]
    model_dir: Path

    @property
    def history(self) -> pd.DataFrame:
        """All metric values: columns metric, value, epoch."""
        return pd.DataFrame(read_history("\n".join(self.log)), columns=["metric", "value", "epoch"])


def run_here(folder: str | Path, config: TrainConfig, *, stream: bool = True) -> CompletedRun:
    """Run ``ec2train.py`` as a process in the staged folder, from a clean environment, as the instance would.

    Parameters
    ----------
    folder : path
        What ``opml.estimators.stage_source("ec2train.py")`` returned.
    config : TrainConfig
        Its settings; relative ``data`` and ``weights`` are taken from where this is called; model and metrics go into the staged folder.
    stream : bool
        Print the log while it grows.

    Raises
    ------
    OpmlError
        The process failed; carries its last lines.
    """
    folder = Path(folder)
    weights = str(Path(config.weights).resolve()) if Path(config.weights).is_file() else config.weights
    flags = _flags(config, data=str(Path(config.data).resolve()), weights=weights, model_dir="model", output_dir="output")
    environment = machine.environment("OPML_OWNED_BY")
    started, log = time.perf_counter(), []
    command = [sys.executable, "ec2train.py", *flags]
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            for line in process.stdout:
                log.append(line.rstrip("\n"))
                if stream:
                    print(log[-1], flush=True)
        except BaseException:  # the reader pressed stop: the training must stop, too
            process.kill()
            raise
    if process.returncode:
        last = "\n".join(deque(log, maxlen=15))
        raise OpmlError(f"ec2train.py ended with exit code {process.returncode}:\n{last}")
    metrics = {metric: value for metric, value, _ in read_history("\n".join(log))}
    return CompletedRun(time.perf_counter() - started, log, metrics, folder / "model")


def _flags(config: TrainConfig, **paths: str) -> list[str]:
    settings = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)} | paths
    return [text for name, value in settings.items() for text in (f"--{name}", str(value))]
