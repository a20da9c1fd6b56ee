"""A job's input while others write to the same bucket."""

import pytest
from moto.s3.models import s3_backends

from opml.localaws import channels, state
from opml.localaws.settings import settings

URI = "s3://channel"
CHANNEL = {"DataSource": {"S3DataSource": {"S3Uri": URI}}}


@pytest.fixture
def put():
    """Write one object to a bucket of moto's, in this process."""
    backend = s3_backends[settings.account]["aws"]
    backend.create_bucket("channel", settings.region)
    yield lambda key, body: state.put_object(f"{URI}/{key}", body)
    backend.reset()


def test_an_object_that_is_overwritten_while_others_are_copied_is_copied_as_it_is_then(put, tmp_path, monkeypatch):
    put("first", b"1")
    put("second", b"old")
    write = channels.write
    monkeypatch.setattr(channels, "write", lambda *arguments: (put("second", b"new"), write(*arguments)))
    channels.download(CHANNEL, tmp_path, 0, 1, "role")
    assert (tmp_path / "second").read_bytes() == b"new"


def test_an_object_that_is_overwritten_under_its_reader_is_read_anew(put, monkeypatch):
    put("tensors", b"old")
    stale = state._find("channel", "tensors")
    put("tensors", b"new")  # moto closes the old one's file
    found = iter([stale, state._find("channel", "tensors")])
    monkeypatch.setattr(state, "_find", lambda *_: next(found))
    assert state.get_object(f"{URI}/tensors") == b"new"


def test_an_object_that_is_gone_since_it_was_listed_is_the_jobs_fault(put):
    with pytest.raises(channels.JobFault, match=r"ClientError: Data download failed \(NoSuchKey\)"):
        channels.fetch(f"{URI}/gone", "Data download failed")
