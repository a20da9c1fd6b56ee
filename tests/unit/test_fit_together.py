"""Several training jobs, a few at a time."""

import pytest

from opml.jobs import fit_together


class Job:
    """A job and its estimator in one; writes down what it is asked."""

    def __init__(self, name, told, fails=False):
        self.name, self.told, self.fails, self.latest_training_job = name, told, fails, self

    def fit(self, inputs, wait):
        self.told.append(("fit", self.name))

    def wait(self, logs):
        self.told.append(("wait", self.name))
        if self.fails:
            raise RuntimeError(self.name)

    def stop(self):
        self.told.append(("stop", self.name))


def test_no_more_jobs_than_asked_for_run_at_one_time():
    told = []
    fit_together([(Job(name, told), {}) for name in "abc"], at_once=2)
    assert told == [("fit", "a"), ("fit", "b"), ("wait", "a"), ("fit", "c"), ("wait", "b"), ("wait", "c")]


def test_where_one_job_fails_those_that_run_are_stopped_and_no_other_begins():
    told = []
    with pytest.raises(RuntimeError, match="a"):
        fit_together([(Job(name, told, fails=name == "a"), {}) for name in "abc"], at_once=2)
    assert ("stop", "b") in told and ("fit", "c") not in told
