import os

import pytest

from opml.errors import LocalAwsError
from opml.localaws import statefile


@pytest.fixture(autouse=True)
def state_home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def mode(path):
    return os.stat(path).st_mode & 0o777


def test_what_is_written_is_read_back_and_is_the_owners_alone():
    statefile.write({"server_id": "a"})
    assert statefile.read() == {"server_id": "a"}
    assert (mode(statefile.folder()), mode(statefile.folder() / statefile.NAME)) == (0o700, 0o600)


def test_nothing_is_read_where_nothing_was_written():
    assert statefile.read() is None


def test_only_its_own_server_removes_the_file():
    statefile.write({"server_id": "a"})
    statefile.remove("b")
    assert statefile.read() == {"server_id": "a"}
    statefile.remove("a")
    assert statefile.read() is None


@pytest.mark.parametrize("name", [".", statefile.NAME])
def test_a_folder_or_file_open_to_others_is_refused_with_the_command_that_mends_it(name):
    statefile.write({"server_id": "a"})
    (statefile.folder() / name).chmod(0o755)
    with pytest.raises(LocalAwsError, match="chmod -R go-rwx"):
        statefile.read()


def test_a_link_in_the_files_place_is_refused(tmp_path):
    statefile.make_folder()
    (tmp_path / "elsewhere").write_text("{}")
    (statefile.folder() / statefile.NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LocalAwsError, match="cannot read"):
        statefile.read()


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "state").write_text("a file")
    with pytest.raises(LocalAwsError, match="XDG_STATE_HOME"):
        statefile.make_folder()
