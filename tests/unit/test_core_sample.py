"""opml.core.sample: the generated data set."""

import numpy as np
import pytest
from PIL import Image

from opml.core.config import BadConfig
from opml.core.sample import BREEDS, draw_dog, folder_name, look_of, make_sample


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_there_are_the_133_breeds_of_the_course_with_its_numbers():
    assert len(set(BREEDS)) == 133 and list(BREEDS) == sorted(BREEDS)
    assert [folder_name(i) for i in (0, 13, 49, 132)] == [
        "001.Affenpinscher", "014.Basenji", "050.Chinese_shar-pei", "133.Yorkshire_terrier",
    ]  # fmt: skip


def test_no_two_breeds_look_the_same():
    assert len({look_of(breed) for breed in range(133)}) == 133


def test_the_same_seed_draws_the_same_bytes(tmp_path):
    first, second = (make_sample(tmp_path / name, classes=2, train=2, valid=1, test=1, image_size=32) for name in "ab")
    assert contents(first) == contents(second)


def test_another_seed_draws_other_dogs(tmp_path):
    first, second = (make_sample(tmp_path / str(seed), classes=2, train=1, valid=1, test=1, image_size=32, seed=seed) for seed in (1, 2))
    pictures = [name for name in contents(first) if name.endswith(".jpg")]
    assert all(contents(first)[name] != contents(second)[name] for name in pictures)


def test_more_images_do_not_change_those_there_were(tmp_path):
    few, many = (make_sample(tmp_path / str(n), classes=2, train=n, valid=1, test=1, image_size=32) for n in (1, 3))
    assert {name: body for name, body in contents(many).items() if name in contents(few) and name.endswith(".jpg")} == {
        name: body for name, body in contents(few).items() if name.endswith(".jpg")
    }


def test_no_image_is_in_two_splits(tiny_sample):
    pictures = [body for name, body in contents(tiny_sample).items() if name.endswith(".jpg")]
    assert len(pictures) == 30 and len(set(pictures)) == 30


def test_the_folder_says_that_it_is_generated(tiny_sample):
    assert (tiny_sample / "README.txt").read_text().startswith("GENERATED IMAGES - NOT PHOTOGRAPHS")


def test_a_drawing_has_the_size_that_was_asked_for(tiny_sample):
    with Image.open(tiny_sample / "train" / "001.Affenpinscher" / "Affenpinscher_00000.jpg") as image:
        assert (image.size, image.mode, image.format) == ((40, 40), "RGB", "JPEG")


def test_the_coat_shows_in_every_pose():
    middles = [np.asarray(draw_dog(breed, seed, 48))[10:38, 14:34].mean() for breed in (0, 1) for seed in range(8)]
    assert max(middles[:8]) < min(middles[8:]), "breed 0 is black, breed 1 is white"


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"classes": 134}, "2 to 133 classes, not 134"),
        ({"valid": 0}, "valid needs at least 1"),
        ({"image_size": 4}, "16 to 2048"),
        ({"seed": -1}, "-1"),
    ],
)
def test_a_number_out_of_range_is_named(wrong, said, tmp_path):
    with pytest.raises(BadConfig, match=said):
        make_sample(tmp_path / "new", **wrong)


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("the only copy")
    with pytest.raises(BadConfig, match="exists and is not empty"):
        make_sample(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]
