import errno
import io
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from opml.localaws import channels, training
from opml.localaws.channels import JobFault


def test_a_full_disk_at_the_upload_is_the_jobs_failure_reason(monkeypatch, tmp_path):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(channels, "pack", full)
    job = object.__new__(training.Job)
    job.fake = SimpleNamespace(output_data_config={"S3OutputPath": "s3://b/jobs/"}, training_job_name="job")
    with pytest.raises(JobFault, match="Artifact upload failed:No space left on device"):
        job._upload(tmp_path, [])


def test_an_object_key_cannot_leave_its_channels_folder(tmp_path):
    with pytest.raises(JobFault, match="leaves the channel's folder"):
        channels.write(tmp_path / "training", "../../escaped", b"x")
    assert not list(tmp_path.parent.glob("escaped"))


def test_folders_are_packed_together_and_empty_ones_are_nothing(tmp_path):
    for host, name in (("algo-1", "model.pth"), ("algo-2", "model.pth"), ("algo-2", "sub/extra")):
        (tmp_path / host / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / host / name).write_text(host)
    packed = channels.pack([tmp_path / "algo-1", tmp_path / "algo-2"], tmp_path)
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        found = {member.name: tar.extractfile(member).read() for member in tar}
    assert found == {"model.pth": b"algo-1", "sub/extra": b"algo-2"}
    assert channels.pack([Path(tmp_path / "nothing")], tmp_path) is None
