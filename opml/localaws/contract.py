"""What a training script finds in its container, as pure functions: arguments, SM_* environment, configuration files.

Names and encodings are those of sagemaker-training-toolkit 5.1 (ENVIRONMENT_VARIABLES.md, mapping.py, environment.py). The one
difference: the tree that is /opt/ml in a container lies in a folder of the job here, and ``SM_*`` say so, as AWS's documentation asks
scripts to read them; see ``mounts`` for those that do not.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

JOB_PATH = Path(__file__).with_name("job_path")  # its sitecustomize keeps a distributed job on loopback
GROUP = "homogeneousCluster"
NETWORK = "lo"  # eth0 in a container
FRAMEWORK = "sagemaker_pytorch_container.training:main"
FOLDERS = (
    "input/config", "input/data", "model", "output/data", "output/intermediate", "output/tensors", "output/profiler", "code",
)  # fmt: skip
LIBRARIES = {"distributed_dataparallel": "SMDDP library", "pytorch_ddp": "launcher of pytorchddp", "parameter_server": "parameter server"}
NOT_FRAMEWORK = ("program", "submit_directory", "container_log_level", "job_name", "region", "s3_output")


@dataclass(frozen=True)
class Instance:
    """One instance of a training job: what its environment is computed from."""

    job_name: str
    host: str
    hosts: tuple[str, ...]
    instance_type: str
    base: Path  # stands for /opt/ml
    input_data_config: dict[str, dict]  # channel name -> its settings
    hyperparameters: dict[str, str]  # as the API carries them: JSON texts, or plain texts
    num_cpus: int
    checkpoints: Path | None = None  # the folder that is kept in S3, if the job asks for one


def decode(hyperparameters: dict[str, str]) -> dict:
    """Hyper-parameters as values; a text that is not JSON stands for itself."""
    return {name: _decoded(text) for name, text in hyperparameters.items()}


def _decoded(text: str):
    try:
        return json.loads(text)
    except ValueError:
        return text


def of_the_user(values: dict) -> dict:
    """The hyper-parameters that the script gets; SageMaker keeps its own to itself."""
    return {name: value for name, value in values.items() if not name.startswith("sagemaker_") and name != "_tuning_objective_metric"}


def arguments(values: dict) -> list[str]:
    """Command-line arguments: sorted names, ``--name value``; booleans are the words True and False, None is empty."""
    words = []
    for name, value in sorted(values.items()):
        words += [f"-{name}" if len(name) == 1 else f"--{name}", _argument(value)]
    return words


def _argument(value) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return ",".join(f"{key}={inner}" for key, inner in value.items())
    return str(value)


def encode(value) -> str:
    """A value as an environment variable: texts as they are, all else as compact JSON with sorted keys."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, separators=(",", ":"))


def resource_config(instance: Instance) -> dict:
    """The content of ``input/config/resourceconfig.json``."""
    group = {"instance_group_name": GROUP, "instance_type": instance.instance_type, "hosts": list(instance.hosts)}
    return {
        "current_host": instance.host, "current_instance_type": instance.instance_type, "current_group_name": GROUP,
        "hosts": list(instance.hosts), "instance_groups": [group], "network_interface_name": NETWORK,
    }  # fmt: skip


def config_files(instance: Instance) -> dict[str, dict]:
    """File name in ``input/config`` -> content."""
    files = {
        "hyperparameters.json": instance.hyperparameters,
        "resourceconfig.json": resource_config(instance),
        "inputdataconfig.json": instance.input_data_config,
    }
    return files | ({"checkpointconfig.json": {"LocalPath": str(instance.checkpoints)}} if instance.checkpoints else {})


def training_env(instance: Instance) -> dict:
    """The toolkit's view of the job: the content of ``SM_TRAINING_ENV``; most other variables are single entries of it."""
    values, base = decode(instance.hyperparameters), instance.base
    program = values.get("sagemaker_program", "")
    framework = {
        name: value for name, value in values.items() if name.startswith("sagemaker_") and name[len("sagemaker_") :] not in NOT_FRAMEWORK
    }
    return {
        "additional_framework_parameters": framework,
        "channel_input_dirs": {channel: f"{base}/input/data/{channel}" for channel in sorted(instance.input_data_config)},
        "current_host": instance.host,
        "current_instance_group": GROUP,
        "current_instance_group_hosts": list(instance.hosts),
        "current_instance_type": instance.instance_type,
        "distribution_hosts": list(instance.hosts),
        "distribution_instance_groups": [GROUP],
        "framework_module": FRAMEWORK,
        "hosts": list(instance.hosts),
        "hyperparameters": of_the_user(values),
        "input_config_dir": f"{base}/input/config",
        "input_data_config": instance.input_data_config,
        "input_dir": f"{base}/input",
        "instance_groups": [GROUP],
        "instance_groups_dict": {GROUP: resource_config(instance)["instance_groups"][0]},
        "is_hetero": False,
        "is_master": instance.host == instance.hosts[0],
        "job_name": instance.job_name,
        "log_level": int(values.get("sagemaker_container_log_level", 20)),
        "master_hostname": instance.hosts[0],
        "model_dir": f"{base}/model",
        "module_dir": values.get("sagemaker_submit_directory", f"{base}/code"),
        "module_name": program.rsplit(".", 1)[0],
        "network_interface_name": NETWORK,
        "num_cpus": instance.num_cpus,
        "num_gpus": 0,
        "num_neurons": 0,
        "output_data_dir": f"{base}/output/data",
        "output_dir": f"{base}/output",
        "output_intermediate_dir": f"{base}/output/intermediate",
        "resource_config": resource_config(instance),
        "user_entry_point": program,
    }


# Variables that are single entries of the training environment under their own names.
SAME_NAME = (
    "current_host", "current_instance_group", "current_instance_group_hosts", "current_instance_type", "distribution_instance_groups",
    "framework_module", "hosts", "input_config_dir", "input_data_config", "input_dir", "instance_groups", "instance_groups_dict",
    "is_hetero", "log_level", "model_dir", "module_dir", "module_name", "network_interface_name", "num_cpus", "num_gpus", "num_neurons",
    "output_data_dir", "output_dir", "output_intermediate_dir", "resource_config", "user_entry_point",
)  # fmt: skip


def sm_environment(instance: Instance) -> dict[str, str]:
    """All ``SM_*`` variables of one instance."""
    whole = training_env(instance)
    user, channels = whole["hyperparameters"], whole["channel_input_dirs"]
    variables = {name: whole[name] for name in SAME_NAME}
    variables |= {"hps": user, "user_args": arguments(user), "channels": list(channels), "training_env": whole}
    variables |= {"framework_params": whole["additional_framework_parameters"]}
    variables |= {f"channel_{channel}": folder for channel, folder in channels.items()}
    variables |= {f"hp_{name}": value for name, value in user.items()}
    return {f"SM_{name.upper()}": encode(value) for name, value in variables.items()}


def job_environment(instance: Instance, *, region: str, arn: str, endpoint_url: str, port: int) -> dict[str, str]:
    """The other variables that SageMaker, or its container, sets. ``port`` is the rendezvous of a distributed job."""
    kept = {"CHECKPOINT_CONFIG_FILE_PATH": f"{instance.base}/input/config/checkpointconfig.json"} if instance.checkpoints else {}
    return kept | {
        "TRAINING_JOB_NAME": instance.job_name, "SAGEMAKER_JOB_NAME": instance.job_name, "TRAINING_JOB_ARN": arn,
        "SAGEMAKER_REGION": region, "AWS_REGION": region, "AWS_DEFAULT_REGION": region, "AWS_ENDPOINT_URL": endpoint_url,
        "AWS_EC2_METADATA_DISABLED": "true", "PYTHONPATH": f"{instance.base}/code{os.pathsep}{JOB_PATH}",
        "SAGEMAKER_BASE_DIR": str(instance.base),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": NETWORK,  # algo-1 and 7777 in a container
        "OMP_NUM_THREADS": str(max(1, instance.num_cpus // len(instance.hosts))),
        "OMP_WAIT_POLICY": "PASSIVE",  # threads that wait give the core away: several "instances" share this machine
    }  # fmt: skip


def command(instance: Instance, python: str, port: int) -> list[str]:
    """What is run in the code folder: the script, a shell script, or torchrun if the estimator asks for ``torch_distributed``."""
    values = decode(instance.hyperparameters)
    program = values["sagemaker_program"]
    script = [program, *arguments(of_the_user(values))]
    if program.endswith(".sh"):
        return ["/bin/sh", *script]
    if not values.get("sagemaker_torch_distributed_enabled"):
        return [python, *script]
    cluster = {"nnodes": len(instance.hosts), "nproc_per_node": 1, "node_rank": instance.hosts.index(instance.host)}
    cluster |= {"master_addr": "127.0.0.1", "master_port": port}
    return [python, "-m", "torch.distributed.run", *(f"--{name}={value}" for name, value in cluster.items()), *script]


def log_lines(instance: Instance) -> list[str]:
    """What the local AWS does differently from a container, said at the top of the job's log where it matters."""
    values, lines = decode(instance.hyperparameters), []
    if values.get("sagemaker_mpi_enabled"):
        lines.append("local AWS: there is no MPI here; the script is started once on each instance")
    if library := next((library for name, library in LIBRARIES.items() if values.get(f"sagemaker_{name}_enabled")), None):
        lines.append(f"local AWS: there is no {library} here; the script is started once on each instance, without launcher")
    return lines
