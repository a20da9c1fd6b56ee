import base64
import subprocess

import pytest

from opml import ec2
from opml.core.config import TrainConfig
from opml.core.metrics import TEST_ACCURACY, TRAIN_LOSS
from opml.errors import BadInput, OpmlError


def test_the_choice_is_the_cheapest_that_has_enough():
    assert ec2.choose_instance(vcpu=4, memory_gib=8) == "c7i.xlarge"
    assert ec2.choose_instance(vcpu=4, memory_gib=16) == "m5.xlarge"
    assert ec2.choose_instance(gpu=True, budget_usd_hour=0.6) == "g4dn.xlarge"


def test_burstable_types_are_chosen_only_when_asked_for():
    assert ec2.choose_instance(burstable=True) == "t3.xlarge"


def test_a_budget_that_is_too_small_is_refused_with_the_cheapest():
    with pytest.raises(BadInput, match=r"g4dn\.xlarge.*0\.5260"):
        ec2.choose_instance(gpu=True, budget_usd_hour=0.1)


def test_a_need_that_nothing_meets_is_refused():
    with pytest.raises(BadInput, match="512 GiB"):
        ec2.choose_instance(memory_gib=512)


def test_the_table_says_that_the_usual_choices_are_outside_the_deep_learning_ami():
    supported = ec2.instances()["Deep Learning AMI"]
    assert not supported[["t3.xlarge", "t2.xlarge", "m5.xlarge"]].any() and supported[["g4dn.xlarge", "g5.xlarge"]].all()


def test_the_launch_is_private_bounded_and_removes_itself(aws):
    request = ec2.launch_request(aws, "m7i.xlarge", TrainConfig(epochs=3), hours=1)
    assert request["InstanceInitiatedShutdownBehavior"] == "terminate" and "KeyName" not in request
    assert request["MetadataOptions"]["HttpTokens"] == "required"
    assert all(m["Ebs"]["Encrypted"] and m["Ebs"]["DeleteOnTermination"] for m in request["BlockDeviceMappings"])
    assert {"Key": "opml:run_id", "Value": "t"} in request["TagSpecifications"][0]["Tags"]


def test_ec2_accepts_the_launch_and_keeps_the_script(aws):
    client = aws.client("ec2")
    iam = aws.client("iam")
    iam.create_instance_profile(InstanceProfileName=aws.name("ec2-train"))
    request = ec2.launch_request(aws, "m7i.xlarge")
    image = client.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]  # moto resolves no ssm parameters
    (instance,) = client.run_instances(**{**request, "ImageId": image})["Instances"]
    kept = client.describe_instance_attribute(InstanceId=instance["InstanceId"], Attribute="userData")["UserData"]["Value"]
    assert base64.b64decode(kept).decode() == request["UserData"]


@pytest.mark.parametrize("name", ["ml.m5.large", "z9.huge"])
def test_a_launch_of_what_ec2_does_not_have_is_refused(aws, name):
    with pytest.raises(BadInput, match=name):
        ec2.launch_request(aws, name)


def test_a_request_that_does_not_fit_the_model_is_refused(aws):
    with pytest.raises(BadInput, match="VolumeSize"):
        ec2.launch_request(aws, "m7i.xlarge", volume_gb="thirty")


def test_the_script_is_valid_bash_and_sets_its_limit_first(aws):
    script = ec2.user_data(aws, TrainConfig(epochs=3), hours=1.5)
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0
    lines = script.splitlines()
    assert lines[1] == "set -euo pipefail" and lines[2].startswith("shutdown -h +90")
    assert "--epochs 3" in script and "s3://opml-local/opml/t/data" in script


def test_the_script_uploads_its_log_and_shuts_down_whatever_happens(aws):
    (trap,) = [line for line in ec2.user_data(aws).splitlines() if line.startswith("trap")]
    assert "log.txt" in trap and "shutdown -h now" in trap and trap.endswith("EXIT")


def test_the_script_holds_no_secret(aws, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t")
    script = ec2.user_data(aws)
    assert "s3cr3t" not in script and "AWS_SECRET" not in script and "AKIA" not in script


def test_a_setting_cannot_smuggle_a_command_into_the_script(aws):
    script = ec2.user_data(aws, TrainConfig(weights="x; reboot"))
    assert "'x; reboot'" in script


def test_a_script_without_a_limit_is_refused(aws):
    with pytest.raises(BadInput, match="hours"):
        ec2.user_data(aws, hours=0)


@pytest.fixture
def door(tmp_path):
    """A staged folder whose door is what the test writes."""

    def write(code):
        (tmp_path / "ec2train.py").write_text(code)
        return tmp_path

    return write


def test_a_run_here_gives_its_log_its_metrics_and_its_history(door, capsys):
    code = f"print('epoch 1/1: {TRAIN_LOSS.line(0.5)}')\nprint('{TEST_ACCURACY.line(0.9)}')"
    run = ec2.run_here(door(code), TrainConfig())
    assert run.metrics == {"train:loss": 0.5, "test:accuracy": 0.9} and run.seconds > 0
    assert run.history["epoch"].tolist() == [1, 1] and "train loss" in capsys.readouterr().out


def test_a_run_here_sees_no_aws_and_no_sagemaker(door, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t")
    monkeypatch.setenv("SM_MODEL_DIR", "elsewhere")
    run = ec2.run_here(door("import os; print(sorted(k for k in os.environ if k[:3] in ('AWS', 'SM_')))"), TrainConfig(), stream=False)
    assert run.log == ["[]"]


def test_a_run_here_reads_its_data_from_where_it_was_called(door, monkeypatch, tmp_path_factory):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere") / "..")
    run = ec2.run_here(door("import sys; print(sys.argv[sys.argv.index('--data') + 1])"), TrainConfig(data="dogs"), stream=False)
    assert run.log == [str(tmp_path_factory.getbasetemp() / "dogs")]


def test_a_run_here_that_fails_raises_with_its_last_lines(door):
    with pytest.raises(OpmlError, match="exit code 2:\nno such folder"):
        ec2.run_here(door("import sys; sys.exit(print('no such folder') or 2)"), TrainConfig(), stream=False)
