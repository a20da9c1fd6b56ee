"""The recorder, its judge and the file that another process follows."""

import json
import sys
from types import SimpleNamespace

import pytest
import torch

from opml.core import recorder, system
from opml.core.config import TrainConfig
from opml.core.judge import Judge, parameters
from opml.core.observer import Observer, Observers, steps
from opml.core.records import EVAL, TRAIN, Summary
from opml.core.rules import evaluate
from opml.core.sources import RecorderSource, read_recorder
from opml.core.watch import Watch


class Net(torch.nn.Module):
    """Two layers, and one ReLU that is used twice and overwrites its input, as torchvision's."""

    def __init__(self):
        super().__init__()
        self.first, self.relu, self.fc = torch.nn.Linear(4, 8), torch.nn.ReLU(inplace=True), torch.nn.Linear(8, 2)

    def forward(self, inputs):
        return self.fc(self.relu(self.relu(self.first(inputs)) - 1.0))


def train(observer, epochs=2, length=6, loss=lambda step, value: value):
    """A small loop that tells an observer of itself, as opml.core.loop does; the number of training steps done."""
    torch.manual_seed(0)
    net, inputs, done = Net(), torch.randn(5, 4), 0
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    observer.start(TrainConfig(), net, optimizer, (length, 2))
    for _ in range(epochs):
        observer.phase("train")
        for _ in steps(range(length), observer, until_stopped=True):
            value = loss(done, net(inputs).square().mean())
            observer.forward(value.detach())
            net.zero_grad()
            value.backward()
            observer.backward()
            optimizer.step()
            done += 1
        observer.phase("eval")
        for _ in steps(range(2), observer):
            observer.forward(torch.tensor(1.0))
    observer.phase("test")
    for _ in steps(range(2), observer):
        observer.forward(torch.tensor(9.0))
    observer.end(None)
    return done


def test_what_was_recorded_can_be_read_back_as_it_is_in_memory(tmp_path):
    watch = recorder.Recorder(tmp_path, interval=3, seconds=0)
    train(watch)
    read = read_recorder(tmp_path)
    read.now = None  # when it was read
    assert read == watch.record and read.finished
    assert read.steps(mode=EVAL) == [6, 7, 14, 15] and read.steps("gradient/ResNet_fc.weight") == [0, 3, 8, 11]
    assert read.names(collection="relu_input") == ["relu_input_0", "relu_input_1"]


def test_a_record_knows_how_many_instances_the_job_has(tmp_path, monkeypatch):
    monkeypatch.setenv("SM_HOSTS", '["algo-1", "algo-2"]')
    train(recorder.Recorder(tmp_path, seconds=0), epochs=1)
    assert read_recorder(tmp_path).facts["instances"] == 2


def test_a_relus_input_is_seen_before_the_layer_overwrites_it(tmp_path):
    watch = recorder.Recorder(tmp_path, interval=3, seconds=0)
    train(watch)
    assert watch.record.summary("relu_input_0", 0).min < 0
    assert len(watch.record.summary("relu_output_0", 0).active) == 8


def test_each_step_has_its_phases_and_the_last_look_is_no_step(tmp_path):
    watch = recorder.Recorder(tmp_path, seconds=0)
    train(watch, epochs=1)
    assert [p.phase for p in watch.record.phases if p.step == 0] == ["step", "loading", "forward", "backward", "optimizer"]
    assert [p.phase for p in watch.record.phases if p.step == 7] == ["step", "loading", "forward"]
    assert watch.record.steps() == list(range(8)) and all(p.seconds >= 0 for p in watch.record.phases)


def test_a_reader_follows_whole_lines_only(tmp_path):
    train(recorder.Recorder(tmp_path, interval=3, seconds=0))
    whole = (tmp_path / "record.jsonl").read_bytes()
    (tmp_path / "b").mkdir()
    source = RecorderSource(tmp_path / "b")
    assert source.update().steps() == []
    (tmp_path / "b" / "record.jsonl").write_bytes(whole[:-30])
    assert not source.update().finished and source.record.steps()
    (tmp_path / "b" / "record.jsonl").write_bytes(whole)
    assert source.update().finished and len(source.record.phases) == len(read_recorder(tmp_path).phases)


def test_samples_of_the_machine_are_recorded_beside_training(tmp_path, monkeypatch):
    def watch(seconds, take):
        return SimpleNamespace(start=lambda: take(1.0, [("cpu0", "X", 5.0)]), end=lambda: None)

    monkeypatch.setattr(system, "Watch", watch)
    train(recorder.Recorder(tmp_path, seconds=1.0), epochs=1)
    assert [(s.kind, s.dimension, s.value) for s in read_recorder(tmp_path).system] == [("cpu0", "X", 5.0)]


def test_a_disk_that_is_full_ends_the_record_and_not_the_training(tmp_path, capsys):
    watch = recorder.Recorder(tmp_path, interval=3, seconds=0)

    def refuse(text):
        raise OSError(28, "No space left on device")

    start = watch.start

    def broken(*words):
        start(*words)
        watch._file.close()
        watch._file = SimpleNamespace(write=refuse, flush=lambda: None, close=lambda: None)

    watch.start = broken
    assert train(watch) == 12
    assert "cannot be written (No space left on device), so nothing more is recorded" in capsys.readouterr().out


def test_findings_and_report_that_cannot_be_written_do_not_end_the_job(tmp_path, capsys, monkeypatch):
    def refuse(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("opml.core.judge.write_text", refuse)
    monkeypatch.setattr("opml.core.watch.write_report", refuse)
    assert train(Watch(TrainConfig(output_dir=str(tmp_path)))) == 12
    said = capsys.readouterr().out
    assert f"{tmp_path}/findings.json cannot be written (No space left on device): free some space" in said
    assert f"the report {tmp_path}/report.html cannot be written (No space left on device)" in said


def test_a_record_that_cannot_be_begun_is_done_without(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert train(recorder.Recorder(tmp_path / "file" / "record", seconds=0)) == 12
    assert "so nothing more is recorded" in capsys.readouterr().out


def test_a_finding_is_said_once_and_stops_training_when_asked_to(tmp_path):
    said = []
    judge = Judge({"LossNotDecreasing": {"num_steps": "4", "mode": "TRAIN"}}, tmp_path, "stop", said.append)
    done = train(recorder.Recorder(tmp_path, seconds=0, judge=judge), epochs=20, loss=lambda step, value: value * 0 + 1)
    assert done == 7  # the first look is after the first pass of validation, one step into the second epoch
    assert [line.split(":")[0] for line in said] == ["finding"] and "LossNotDecreasing at step 4" in said[0]


def test_warning_lets_training_go_on(tmp_path):
    judge = Judge({"LossNotDecreasing": {"num_steps": "4", "mode": "TRAIN"}}, tmp_path, "warn", lambda line: None)
    assert train(recorder.Recorder(tmp_path, seconds=0, judge=judge), epochs=3, loss=lambda step, value: value * 0 + 1) == 18


def test_findings_are_said_in_the_order_of_the_rules(tmp_path):
    rules = {f"rule {number}": {} for number in range(9)}
    said, judge = [], Judge(rules, tmp_path, say=lambda line: None)
    judge._note = lambda verdict: said.append(verdict)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("opml.core.judge.evaluate", lambda rule, *of_it: rule)
        judge(recorder.Record())
    assert said == list(rules)


def test_the_findings_file_has_each_verdict_with_what_to_do(tmp_path):
    watch = recorder.Recorder(tmp_path, interval=3, seconds=0)
    train(watch)
    Judge(parameters(6, 2, 2), tmp_path, say=lambda line: None).conclude(watch.record)
    rows = {row["rule"]: row for row in json.loads((tmp_path / "findings.json").read_text())}
    assert rows["CPUBottleneck"]["status"] == "NotApplicable" and rows["VanishingGradient"]["suggestion"]


def test_only_rules_that_could_look_are_said_to_have_found_no_issue(tmp_path):
    said, record = [], recorder.Record(finished=True)
    record.collect("losses", "CrossEntropyLoss_output_0")
    for step in range(30):
        record.add("CrossEntropyLoss_output_0", "TRAIN", step, Summary(mean=1.0 / (step + 1), size=1), step)
    Judge(parameters(2, 1, 15), tmp_path, say=said.append).conclude(record)
    assert [line.split(":")[0] for line in said] == ["not applicable", "no issues"]
    assert "LossNotDecreasing" in said[1] and "VanishingGradient" in said[0] and "VanishingGradient" not in said[1]


def test_processes_that_do_not_write_count_steps_and_hear_the_word_to_stop(monkeypatch):
    monkeypatch.setattr(recorder.dist, "from_main", lambda value: True)
    follower = recorder.Recorder(None, judge=lambda record: False)
    assert train(follower, epochs=9) == 7 and follower.record.steps() == []


def test_parameters_for_a_job_count_its_epochs():
    assert parameters(15, 5, 4)["LossNotDecreasing"] == {"num_steps": "45", "mode": "TRAIN"}
    assert parameters(15, 5, 9)["LossNotDecreasing"]["num_steps"] == "68"  # once, half-way
    record = recorder.Record(finished=True)
    assert {evaluate(rule, record, values).status for rule, values in parameters(15, 5, 8).items()} == {"NotApplicable"}


def test_several_observers_are_told_the_same_and_one_of_them_may_stop():
    heard = []

    class Loud(Observer):
        stop = whole = True

        def phase(self, name):
            heard.append(name)

    both = Observers(Loud(), Loud())
    both.phase("train")
    assert heard == ["train", "train"] and both.stop and both.whole
    assert not Observers(Observer()).stop


@pytest.mark.parametrize("use_psutil", [True, False])
def test_the_machine_is_read_with_psutil_or_without(use_psutil):
    sampler = system.Sampler(use_psutil=use_psutil)
    sum(range(10**6))
    found = {(part, what): value for part, what, value in sampler.read()}
    assert 0 <= found["memory", "MemoryUsedPercent"] <= 100
    assert all(-0.1 <= value <= 100.1 for (_, what), value in found.items() if what == "CPUUtilization")


def test_ticks_of_proc_become_percentages(tmp_path):
    (tmp_path / "stat").write_text("cpu 1 1 1 1\ncpu0 100 0 0 100 0 0 0 0 0 0\n")
    sampler = system.Sampler(tmp_path, use_psutil=False)
    (tmp_path / "stat").write_text("cpu 1 1 1 1\ncpu0 130 0 0 150 20 0 0 0 0 0\n")
    assert sampler.read() == [("cpu0", "CPUUtilization", 30.0), ("cpu0", "I/OWaitPercentage", 20.0)]


def test_rates_of_disk_and_network_are_those_since_the_last_reading(monkeypatch):
    sampler, moments = system.Sampler(), iter((100.0, 102.0))
    monkeypatch.setattr(system.time, "monotonic", lambda: next(moments))
    totals = iter(([("network", "ReceiveBytesPerSecond", 1000)], [("network", "ReceiveBytesPerSecond", 1500)]))
    monkeypatch.setattr(sampler, "_totals", lambda: next(totals))
    sampler._before.clear()
    assert sampler._rates() == [] and sampler._rates() == [("network", "ReceiveBytesPerSecond", 250.0)]


def test_a_gpu_that_refuses_one_answer_is_asked_for_the_others_and_no_other_gpu_is(monkeypatch):
    asked, refusal = [], type("NVMLError", (Exception,), {})

    def refuse(number):
        raise refusal("Not Supported")

    monkeypatch.setitem(sys.modules, "pynvml", SimpleNamespace(NVMLError=refusal))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda number: asked.append(number) or (25, 100))
    monkeypatch.setattr(torch.cuda, "utilization", refuse)
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert system.gpus() == [("gpu2", "GPUMemoryUtilization", 75.0)] and asked == [2]


def test_modes_are_smdebugs(tmp_path):
    watch = recorder.Recorder(tmp_path, seconds=0)
    train(watch, epochs=1)
    assert {watch.record.mode(step) for step in watch.record.steps()} == {TRAIN, EVAL}
