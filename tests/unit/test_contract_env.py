"""The environment of a training script, as documented by the toolkit's ENVIRONMENT_VARIABLES.md."""

import json
from pathlib import Path

import pytest

from opml.localaws import contract

# What a real run of sagemaker_training 5.1.4 with sagemaker_pytorch_training 3.0.0 prints, for one channel and one hyper-parameter.
DOCUMENTED = {
    f"SM_{name}"
    for line in (
        "MODEL_DIR CHANNELS CHANNEL_TRAINING HPS HP_EPOCHS USER_ARGS CURRENT_HOST HOSTS NUM_GPUS NUM_CPUS NUM_NEURONS LOG_LEVEL",
        "NETWORK_INTERFACE_NAME INPUT_DIR INPUT_CONFIG_DIR INPUT_DATA_CONFIG RESOURCE_CONFIG OUTPUT_DIR OUTPUT_DATA_DIR",
        "OUTPUT_INTERMEDIATE_DIR MODULE_NAME MODULE_DIR USER_ENTRY_POINT FRAMEWORK_MODULE FRAMEWORK_PARAMS CURRENT_INSTANCE_TYPE",
        "CURRENT_INSTANCE_GROUP CURRENT_INSTANCE_GROUP_HOSTS INSTANCE_GROUPS INSTANCE_GROUPS_DICT DISTRIBUTION_INSTANCE_GROUPS IS_HETERO",
        "TRAINING_ENV",
    )
    for name in line.split()
}


def instance(**changes):
    given = {
        "job_name": "job", "host": "algo-2", "hosts": ("algo-1", "algo-2"), "instance_type": "ml.m5.large", "base": Path("base"),
        "input_data_config": {"training": {"TrainingInputMode": "File"}}, "num_cpus": 4,
        "hyperparameters": {"epochs": "3", "sagemaker_program": '"hpo.py"', "sagemaker_submit_directory": '"s3://b/code.tar.gz"'},
    }  # fmt: skip
    return contract.Instance(**{**given, **changes})


def test_the_script_finds_the_documented_names_and_no_others():
    assert set(contract.sm_environment(instance())) == DOCUMENTED


def test_folders_hosts_and_channels_are_those_of_the_instance():
    env = contract.sm_environment(instance())
    assert env["SM_CHANNEL_TRAINING"] == "base/input/data/training" and env["SM_MODEL_DIR"] == "base/model"
    assert (env["SM_CURRENT_HOST"], json.loads(env["SM_HOSTS"])) == ("algo-2", ["algo-1", "algo-2"])
    assert (env["SM_MODULE_NAME"], env["SM_MODULE_DIR"]) == ("hpo", "s3://b/code.tar.gz")
    assert json.loads(env["SM_TRAINING_ENV"])["is_master"] is False


def test_values_are_encoded_as_the_toolkit_encodes_them():
    env = contract.sm_environment(instance(hyperparameters={"flag": "true", "name": '"adam"', "sizes": "[1, 2]", "plain": "ml"}))
    assert (env["SM_HP_FLAG"], env["SM_HP_NAME"], env["SM_HP_SIZES"], env["SM_HP_PLAIN"]) == ("true", "adam", "[1,2]", "ml")
    assert env["SM_HPS"] == '{"flag":true,"name":"adam","plain":"ml","sizes":[1,2]}'


@pytest.mark.parametrize(
    ("text", "word"),
    [("true", "True"), ("0.1", "0.1"), ('"a b"', "a b"), ("null", ""), ('{"a": 1, "b": 2}', "a=1,b=2"), ("[1, 2]", "[1, 2]")],
)
def test_hyper_parameters_become_arguments(text, word):
    assert contract.arguments(contract.decode({"x": text})) == ["-x", word]
    assert contract.arguments(contract.decode({"xy": text})) == ["--xy", word]


def test_arguments_are_sorted_and_sagemakers_own_are_kept_out():
    values = contract.decode({"b": "1", "aa": "2", "sagemaker_region": '"r"', "_tuning_objective_metric": "loss"})
    assert contract.arguments(contract.of_the_user(values)) == ["--aa", "2", "-b", "1"]


def test_the_command_is_the_script_a_shell_script_or_torchrun():
    assert contract.command(instance(), "python", 1) == ["python", "hpo.py", "--epochs", "3"]
    assert contract.command(instance(hyperparameters={"sagemaker_program": "run.sh"}), "python", 1) == ["/bin/sh", "run.sh"]
    torchrun = contract.command(
        instance(hyperparameters={"sagemaker_program": "t.py", "sagemaker_torch_distributed_enabled": "true"}), "python", 7
    )
    assert torchrun[:3] == ["python", "-m", "torch.distributed.run"] and torchrun[-1] == "t.py"
    assert {"--nnodes=2", "--node_rank=1", "--master_port=7", "--master_addr=127.0.0.1"} <= set(torchrun)


def test_cores_are_shared_among_the_instances():
    env = contract.job_environment(instance(), region="us-east-1", arn="arn", endpoint_url="http://127.0.0.1:1", port=7)
    assert (env["OMP_NUM_THREADS"], env["MASTER_ADDR"], env["MASTER_PORT"], env["GLOO_SOCKET_IFNAME"]) == ("2", "127.0.0.1", "7", "lo")


def test_the_configuration_files_say_the_same_as_the_environment():
    files, env = contract.config_files(instance()), contract.sm_environment(instance())
    assert files["resourceconfig.json"] == json.loads(env["SM_RESOURCE_CONFIG"])
    assert files["inputdataconfig.json"] == json.loads(env["SM_INPUT_DATA_CONFIG"])
    assert files["hyperparameters.json"]["epochs"] == "3"
