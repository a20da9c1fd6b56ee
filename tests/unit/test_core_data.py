"""opml.core.data: folders that are checked before a second of training is spent on them."""

import shutil

import pytest

from opml.core import data
from opml.core.config import BadConfig
from opml.core.data import check_folder

FIRST = "train/001.Affenpinscher/Affenpinscher_00000.jpg"


@pytest.fixture
def folder(tiny_sample, tmp_path):
    return shutil.copytree(tiny_sample, tmp_path / "data")


def test_classes_are_the_folders_in_order(tiny_sample):
    checked = check_folder(tiny_sample)
    assert checked.breeds == ["Affenpinscher", "Afghan_hound", "Airedale_terrier"]
    assert [label for _, label in checked.files["valid"]] == [0, 0, 1, 1, 2, 2]


def half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def spoil_middle(path):
    path.write_bytes(path.read_bytes()[:300] + b"\0" * 200 + b"\xff\xd9")


@pytest.mark.parametrize(
    "spoil, said",
    [
        (lambda d: shutil.rmtree(d), r"does not exist: name another with --data"),
        (lambda d: (shutil.rmtree(d), d.mkdir()), r"is empty: it needs train/ valid/ test/"),
        (lambda d: shutil.rmtree(d / "valid"), r"has no valid/"),
        (lambda d: shutil.rmtree(d / "test" / "002.Afghan_hound"), r"class 002.Afghan_hound is missing in .*test"),
        (lambda d: shutil.rmtree(d / "train" / "002.Afghan_hound"), r"class 002.Afghan_hound is missing in .*train"),
        (lambda d: [p.unlink() for p in (d / "valid" / "001.Affenpinscher").iterdir()], r"valid/001.Affenpinscher has no images"),
        (lambda d: half(d / FIRST), r"Affenpinscher_00000.jpg cannot be trained on: the image is cut short"),
        (lambda d: (d / FIRST).write_text("hello"), r"Affenpinscher_00000.jpg cannot be trained on: this is not an image"),
        (lambda d: (d / "test/001.Affenpinscher/notes.txt").write_text("hello"), r"notes.txt cannot be trained on"),
        (lambda d: (d / "test/001.Affenpinscher/empty.jpg").touch(), r"empty.jpg cannot be trained on"),
        (lambda d: (d / "test/001.Affenpinscher/more").mkdir(), r"more cannot be read: Is a directory"),
        (lambda d: [shutil.rmtree(d / s / c) for s in data.SPLITS for c in ("001.Affenpinscher", "002.Afghan_hound")], r"has 1 class"),
    ],
    ids=[
        "missing",
        "empty",
        "no-valid",
        "no-test-class",
        "no-train-class",
        "no-images",
        "truncated",
        "text",
        "notes",
        "0-bytes",
        "folder",
        "1-class",
    ],
)
def test_a_bad_folder_is_refused_with_one_sentence(folder, spoil, said):
    spoil(folder)
    with pytest.raises(BadConfig, match=said) as refused:
        check_folder(folder)
    assert "\n" not in str(refused.value)


def test_bytes_after_a_jpeg_and_hidden_files_do_no_harm(folder):
    with open(folder / FIRST, "ab") as file:
        file.write(b"camera's thumbnail")
    (folder / "train" / "001.Affenpinscher" / ".DS_Store").write_text("x")
    assert len(check_folder(folder).files["train"]) == 18


def test_a_file_in_place_of_the_data_folder_is_called_a_file(tmp_path):
    (tmp_path / "dogs.zip").touch()
    with pytest.raises(BadConfig, match="dogs.zip is a file, not a folder"):
        check_folder(tmp_path / "dogs.zip")


def test_unreadable_images_are_left_out_and_named_where_that_is_asked_for(folder):
    spoil_middle(folder / FIRST)
    (folder / "valid/002.Afghan_hound/notes.jpg").write_text("no image")
    checked = check_folder(folder, skip_unreadable=True)
    assert [len(files) for files in checked.files.values()] == [17, 6, 6]
    assert [why.split(" is left out: ")[1] for why in checked.skipped] == [
        "the image is cut short or damaged", "this is not an image that can be read here (JPEG, PNG, WEBP)",
    ]  # fmt: skip


def test_a_class_of_which_nothing_can_be_decoded_is_refused_all_the_same(folder):
    for path in (folder / "test/001.Affenpinscher").iterdir():
        half(path)
    with pytest.raises(BadConfig, match="no image in .*test/001.Affenpinscher can be decoded"):
        check_folder(folder, skip_unreadable=True)


def test_the_fingerprint_sees_another_file_another_size_and_another_class(folder, tiny_sample):
    same = check_folder(tiny_sample).fingerprint()
    assert check_folder(folder).fingerprint() == same
    with open(folder / FIRST, "ab") as file:
        file.write(b"x")
    assert check_folder(folder).fingerprint() != same
