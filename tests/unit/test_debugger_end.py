"""How a job's rules end: whatever fails, each of their processes is told so, and each status becomes final."""

import errno
from types import SimpleNamespace

import pytest

from opml.localaws import channels
from opml.localaws.debugger import Debugger
from opml.localaws.debugger_upload import Upload
from opml.localaws.training_api import TrainingMixin, ValidationError, training


class Evaluations:
    """Stands for the processes: notes what they are told."""

    def __init__(self):
        self.told = []

    def __getattr__(self, name):
        return lambda *_: self.told.append(name)


@pytest.fixture
def debugger(tmp_path):
    """Of a job that trains; its rules are notes."""
    rules = [{"RuleConfigurationName": "Overfit"}]
    fake = SimpleNamespace(role_arn="arn:aws:iam::123456789012:role/r", secondary_status="Training")
    debugger = Debugger(SimpleNamespace(name="job", fake=fake, request={"DebugRuleConfigurations": rules}))
    debugger._folder, debugger._rules = tmp_path / "work", Evaluations()
    (tmp_path / "work/debug-output/index").mkdir(parents=True)
    return debugger


def test_a_full_disk_at_the_end_leaves_no_rule_waiting(debugger, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(channels, "write", full)
    folder = debugger._folder / "debug-output"
    debugger._uploads[folder] = Upload(folder, "s3://b/job/debug-output")
    with pytest.raises(OSError, match="No space left"):
        debugger.finish()
    assert debugger._rules.told == ["finish", "wait", "stop_all"] and not debugger._folder.exists()


def test_a_change_that_comes_after_the_end_starts_no_rule(debugger):
    assert debugger.is_open() and debugger.update({})
    debugger.finish()
    assert not debugger.update({"ProfilerRuleConfigurations": [{"RuleConfigurationName": "BatchSize"}]})
    assert debugger._rules.told == ["add", "finish", "wait", "stop_all"]


def test_who_asks_for_a_change_too_late_is_told_so(debugger, monkeypatch):
    job = SimpleNamespace(fake=debugger._job.fake, debugger=debugger)
    monkeypatch.setitem(training.JOBS, "job", job)
    monkeypatch.setattr(debugger, "update", lambda _: False)  # it ended between the question and the lock
    request = SimpleNamespace(body='{"TrainingJobName": "job"}', _get_param=lambda _: "job")
    with pytest.raises(ValidationError, match="in status Training"):
        TrainingMixin.update_training_job(request)
