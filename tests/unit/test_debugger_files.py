"""What a training container is told about Debugger and profiler, and the pure parts of what watches it."""

import json
import os

import pytest

from opml import rules
from opml.localaws import debugger_files, rule_actions, system_metrics
from opml.localaws.debugger_upload import Upload, gather

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/pytorch-training"


def request(image="image:1", **members):
    return {"AlgorithmSpecification": {"TrainingImage": image}, **members}


def hook(*collections, **more):
    entries = [{"CollectionName": name, "CollectionParameters": parameters} for name, parameters in collections]
    return {"S3OutputPath": "s3://b/p", "CollectionConfigurations": entries, **more}


def test_files_are_written_for_what_is_asked_only():
    assert debugger_files.files(request(), "/opt/ml") == {}
    asked = request(DebugHookConfig=hook(), ProfilerConfig={"DisableProfiler": True}, TensorBoardOutputConfig={"S3OutputPath": "s3://b"})
    files = debugger_files.files(asked, "/opt/ml")
    assert sorted(files) == ["debughookconfig.json", "profilerconfig.json", "tensorboardoutputconfig.json"]
    assert files["debughookconfig.json"]["LocalPath"] == "/opt/ml/output/tensors" and files["profilerconfig.json"]["DisableProfiler"]


def test_paths_lie_where_the_script_can_see_them():
    asked = request(DebugHookConfig=hook(LocalPath="/opt/ml/output/here"), ProfilerConfig={"ProfilingParameters": {"LocalPath": ""}})
    files = debugger_files.files(asked, "/job/opt/ml")
    assert files["debughookconfig.json"]["LocalPath"] == "/job/opt/ml/output/here"
    assert files["profilerconfig.json"]["ProfilingParameters"]["LocalPath"] == "/job/opt/ml/output/profiler"


def test_what_is_asked_for_on_purpose_comes_after_what_a_rule_brings_along():
    own, rules = ("losses", {"train.save_interval": "5", "eval.save_interval": "1"}), ("losses", {"save_interval": "500"})
    for order in ((own, rules), (rules, own)):
        content = debugger_files.files(request(DebugHookConfig=hook(*order)), "/opt/ml")["debughookconfig.json"]
        assert [entry["CollectionParameters"] for entry in content["CollectionConfigurations"]] == [rules[1], own[1]]


TAGS = {"1.2-cpu-py3": False, "1.3.1-gpu-py3": True, "1.8-cpu-py36": True, "1.11.0-cpu-py38": True, "1.12-cpu-py38": False, "2.12-x": False}


@pytest.mark.parametrize(("tag", "hooked"), TAGS.items())
def test_scripts_are_hooked_without_a_change_in_the_images_that_did_it(tag, hooked):
    found = debugger_files.environment(request(f"{IMAGE}:{tag}", DebugHookConfig=hook()), "/opt/ml")
    assert found == ({"OPML_ZERO_SCRIPT_CHANGE": "1"} if hooked else {})
    assert debugger_files.environment(request(f"{IMAGE}:{tag}"), "/opt/ml") == {}  # nothing without a hook configuration


def test_the_control_room_and_the_basement_say_the_same_of_rules_and_images():  # neither may import the other
    assert rules.OF_THE_RULES == debugger_files.RULES_DEFAULT
    for image in (f"{IMAGE}:{tag}" for tag in ("1.2-x", "1.3.1-x", "1.13-x", "2.0.1-gpu", "2.1-x", "2.12-x", "latest")):
        version = debugger_files.pytorch_version(image) or (0, 0)
        assert rules.has_smdebug(image) is ((1, 3) <= version <= (2, 0)), image


def test_where_the_script_has_no_opt_ml_of_its_own_smdebug_is_told_where_to_look():
    assert debugger_files.environment(request(), "/job")["SMDEBUG_CONFIG_FILE_PATH"] == "/job/input/config/debughookconfig.json"


@pytest.mark.parametrize(
    ("members", "word"),
    [
        ({"DebugHookConfig": {"LocalPath": "/tmp/x"}}, "LocalPath is /tmp/x"),
        ({"DebugRuleConfigurations": [{"RuleConfigurationName": "../x"}]}, "'../x' cannot be one"),
        ({"ProfilerConfig": {"ProfilingIntervalInMilliseconds": 300}}, "300: valid values are 100"),
        ({"ProfilerConfig": {"ProfilingIntervalInMilliseconds": 200}, "DebugHookConfig": {}}, None),
    ],
)
def test_what_cannot_be_done_is_refused(members, word):
    fault = debugger_files.fault(members)
    assert fault is None if word is None else word in fault


def test_a_profiler_without_a_place_for_its_output_is_off():
    assert debugger_files.is_profiled({"ProfilerConfig": {"S3OutputPath": "s3://b"}})
    for config in (None, {"DisableProfiler": False}, {"DisableProfiler": True, "S3OutputPath": "s3://b"}):
        assert not debugger_files.is_profiled({"ProfilerConfig": config})


def test_the_first_instances_file_counts_and_unfinished_ones_wait(tmp_path):
    for host in ("algo-1", "algo-2"):
        (tmp_path / host / "index").mkdir(parents=True)
        (tmp_path / host / "index" / "0.json").write_text(host)
        (tmp_path / host / "claim.smd").touch()
    (tmp_path / "algo-2" / "1.tfevents.tmp").touch()
    (tmp_path / "algo-2" / "1.tfevents").write_text("second only")
    gather([tmp_path / "algo-1", tmp_path / "algo-2"], tmp_path / "all")
    assert (tmp_path / "all/index/0.json").read_text() == "algo-1" and (tmp_path / "all/1.tfevents").read_text() == "second only"
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == ["1.tfevents", "index"]


def test_a_file_that_is_replaced_is_gathered_again(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one/x").write_text("old")
    gather([tmp_path / "one"], tmp_path / "all")
    (tmp_path / "one/new").write_text("newer")
    os.replace(tmp_path / "one/new", tmp_path / "one/x")
    gather([tmp_path / "one"], tmp_path / "all")
    assert (tmp_path / "all/x").read_text() == "newer"


def test_only_what_has_changed_is_sent_and_tensors_before_their_index(tmp_path, monkeypatch):
    sent = []
    monkeypatch.setattr("opml.localaws.channels.upload", lambda uri, body: sent.append((uri, body)))
    (tmp_path / "index").mkdir()
    (tmp_path / "index/0.json").write_text("i")
    (tmp_path / "tensors").write_text("t")
    upload = Upload(tmp_path, "s3://b/job/debug-output")
    upload.send()
    upload.send()
    assert sent == [("s3://b/job/debug-output/tensors", b"t"), ("s3://b/job/debug-output/index/0.json", b"i")]


def test_a_sample_has_the_profilers_types_names_and_dimensions():
    samples = [("cpu0", "CPUUtilization", 50.0), ("memory", "MemoryUsedPercent", 41.0), ("i/o", "IOPS", 2.0)]
    samples += [("network", "TransmitBytesPerSecond", 250.0), ("gpu0", "GPUUtilization", 35.0)]
    lines = system_metrics.events(samples, 9.5, "algo-2")
    assert [(line["Type"], line["Name"], line["Dimension"], line["Value"]) for line in lines] == [
        ("cpu", "cpu0", "CPUUtilization", 50.0), ("memory", "MemoryUsedPercent", "", 41.0), ("i/o", "IOPS", "", 2.0),
        ("network", "TransmitBytesPerSecond", "Algorithm", 250.0), ("gpu", "gpu0", "GPUUtilization", 35.0),
    ]  # fmt: skip
    assert {(line["NodeId"], line["Timestamp"]) for line in lines} == {("algo-2", 9.5)}


def test_gpus_are_told_as_nvidia_smi_does():
    told = system_metrics.parse_gpus("[N/A], 1, 2\n35, 1024, 4096\n")
    assert told == [("gpu1", "GPUUtilization", 35.0), ("gpu1", "GPUMemoryUtilization", 25.0)]


def test_samples_are_filed_by_hour_and_minute(tmp_path):
    path = system_metrics.file_of(tmp_path, 1_795_201_218.3, "algo-2")
    assert path == tmp_path / "system/incremental/2026112019/1795201200.algo-2.json"


def test_actions_are_read_as_the_sdk_writes_them():
    from smdebug_rulesconfig.actions.actions import ActionList, Email, StopTraining

    actions = ActionList(StopTraining("job"), Email("abc@abc.com"))
    assert [action["name"] for action in rule_actions.parse(actions.serialize())] == ["stoptraining", "email"]
    nested = {"name": "StopTraining", "parameters": {"training_job_prefix": "x"}}
    assert rule_actions.parse(json.dumps(nested))[0]["training_job_prefix"] == "x"
    assert rule_actions.parse(None) == []


@pytest.mark.parametrize(
    "text", ['{"name": "dance"}', '{"name": "stoptraining"}', "no json", '["stoptraining"]', "1", '{"parameters": [1]}']
)
def test_what_is_no_action_is_refused(text):
    with pytest.raises(ValueError):
        rule_actions.parse(text)


def test_a_message_is_logged_as_not_sent():
    said = []
    rule_actions.act({"name": "sms", "endpoint": "+1"}, "Overfit", said.append)
    assert said == ["local AWS: rule Overfit fired; no sms is sent to +1"]
