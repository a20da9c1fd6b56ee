"""The folders of a training job's instances: made, and filled with what SageMaker puts there before the script runs."""

import json
import os
import tempfile
from pathlib import Path

from moto.sagemaker.models import FakeTrainingJob

from opml.localaws import channels, checkpoints, contract, debugger_files, mounts
from opml.localaws.channels import JobFault
from opml.localaws.checkpoints import Checkpoints
from opml.localaws.contract import Instance
from opml.localaws.settings import settings


def make(name: str) -> Path:
    """A folder of the job's own; lower case, because smdebug lower-cases the paths in its configuration."""
    jobs = settings.root / "jobs"
    try:
        jobs.mkdir(exist_ok=True)
    except OSError as error:
        text = f"InternalServerError: the local AWS cannot use its working folder {settings.root}: {error.strerror}."
        raise JobFault(f"{text} Start another: python -m opml local stop; python -m opml local start") from None
    folder = jobs / name.lower()
    return folder if _made(folder) else Path(tempfile.mkdtemp(prefix=f"{name.lower()}-", dir=jobs))


def _made(folder: Path) -> bool:
    try:
        folder.mkdir(mode=0o700)
        return True
    except FileExistsError:  # a job whose name differs in case only
        return False


def prepare(fake: FakeTrainingJob, request: dict, folder: Path, count: int) -> tuple[list[Instance], Checkpoints | None]:
    """All instances of a job below its folder: configuration, channels, code; and its checkpoints, if it keeps any.

    Raises
    ------
    JobFault
        What the job asks for cannot be had.
    OSError
        The disk does not take it.
    """
    hosts = tuple(f"algo-{number + 1}" for number in range(count))
    instances = [_instance(fake, folder, host, hosts) for host in hosts]
    values = contract.decode(fake.hyper_parameters)
    if "sagemaker_program" not in values:
        raise JobFault("ClientError: the local AWS runs scripts only, and the hyper-parameter sagemaker_program names none")
    for index, instance in enumerate(instances):
        _fill(instance, contract.config_files(instance) | debugger_files.files(request, mounts.root(instance.base)))
        for channel in fake.input_data_config or []:
            channels.download(channel, instance.base / "input/data" / channel["ChannelName"], index, count, fake.role_arn)
        if "sagemaker_submit_directory" in values:
            channels.unpack_code(values["sagemaker_submit_directory"], instance.base / "code")
    check_paths(instances[0])
    return instances, _open_checkpoints(fake.checkpoint_config, instances)


def _instance(fake: FakeTrainingJob, folder: Path, host: str, hosts: tuple[str, ...]) -> Instance:
    base, kept = folder / "instances" / host / "opt" / "ml", fake.checkpoint_config
    return Instance(
        job_name=fake.training_job_name, host=host, hosts=hosts, instance_type=fake.resource_config.get("InstanceType", "local"),
        base=base, hyperparameters=dict(fake.hyper_parameters), num_cpus=os.cpu_count() or 1,
        input_data_config={channel["ChannelName"]: _channel_settings(channel) for channel in fake.input_data_config or []},
        checkpoints=checkpoints.folder_in(base, kept) if kept else None,
    )  # fmt: skip


def _channel_settings(channel: dict) -> dict:
    source = channel["DataSource"]["S3DataSource"]
    values = {
        "TrainingInputMode": channel.get("InputMode", "File"), "RecordWrapperType": channel.get("RecordWrapperType", "None"),
        "S3DistributionType": source.get("S3DataDistributionType", "FullyReplicated"),
    }  # fmt: skip
    return values | ({"ContentType": channel["ContentType"]} if channel.get("ContentType") else {})


def _fill(instance: Instance, files: dict[str, dict]) -> None:
    """The empty tree of /opt/ml with its configuration files."""
    for name in contract.FOLDERS:
        (instance.base / name).mkdir(parents=True)
    if instance.checkpoints:
        instance.checkpoints.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (instance.base / "input/config" / name).write_text(json.dumps(content))


def _open_checkpoints(config: dict | None, instances: list[Instance]) -> Checkpoints | None:
    if not config:
        return None
    kept = Checkpoints(config["S3Uri"], [instance.checkpoints for instance in instances])
    kept.open()
    return kept


def check_paths(instance: Instance) -> None:
    """Where a job cannot have an /opt/ml of its own, a script that names it must not reach the machine's."""
    if mounts.is_available():
        return
    values = contract.of_the_user(contract.decode(instance.hyperparameters))
    where = next((f"the hyper-parameter {name}" for name, value in values.items() if str(value).startswith(mounts.ROOT)), None)
    if where := where or mounts.literal_path(instance.base / "code"):
        raise JobFault(
            f"ClientError: {where} names {mounts.ROOT}, which the local AWS cannot give to a job on this machine (no mount namespaces)."
            ' Take folders from the environment, as os.environ["SM_MODEL_DIR"], which works everywhere.'
        )
