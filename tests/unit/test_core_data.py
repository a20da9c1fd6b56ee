"""opml.core.data: checked folders, and batches that are the same on one process and on many."""

import shutil

import pytest
import torch

from opml.core import data, images
from opml.core.config import BadConfig, TrainConfig
from opml.core.data import GlobalBatches, Photos, Pick, check_folder

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


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_turns_out_damaged_while_training_is_named(folder, workers):
    checked = check_folder(folder)
    half(folder / FIRST)
    loader = data.loader(checked, "train", TrainConfig(image_size=32, batch_size=18, workers=workers), learn=True)
    with pytest.raises(BadConfig, match=r"^\S*Affenpinscher_00000.jpg cannot be trained on: the image is cut short or damaged; [^\n]*$"):
        list(data.batches(loader))


@pytest.mark.parametrize("samples, batch_size", [(17, 5), (16, 4), (9, 8), (3, 8)])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_processes_share_the_global_batches_of_one(samples, batch_size, world):
    alone = [[pick.index for pick in batch if pick.weight] for batch in GlobalBatches(samples, batch_size, seed=3)]
    ranks = [list(GlobalBatches(samples, batch_size, 3, rank, world)) for rank in range(world)]
    for number, whole in enumerate(alone):
        shares = [[pick.index for pick in batches[number] if pick.weight] for batches in ranks]
        assert shares == [whole[rank::world] for rank in range(world)]
    assert sorted(sum(alone, [])) == list(range(samples))


def test_each_epoch_has_its_own_order():
    batches = GlobalBatches(12, 12, seed=0)
    first = [pick.index for pick in next(iter(batches))]
    batches.epoch = 1
    assert [pick.index for pick in next(iter(batches))] != first


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_the_average_of_the_processes_gradients_is_the_mean_over_the_global_batch(world):
    values = torch.arange(1.0, 12.0, dtype=torch.float64)  # the gradient of w * value with respect to w
    ranks = [list(GlobalBatches(len(values), 5, 0, rank, world)) for rank in range(world)]
    for number, whole in enumerate(GlobalBatches(len(values), 5, 0)):
        gradients = [sum(values[pick.index] * pick.weight for pick in batches[number]) for batches in ranks]
        wanted = values[[pick.index for pick in whole if pick.weight]].mean()
        assert torch.isclose(sum(gradients) / world, wanted)


def test_every_process_has_two_samples_for_its_batch_norm():
    assert {len(batch) for rank in range(3) for batch in GlobalBatches(7, 6, 0, rank, 3)} == {2}


def test_a_global_batch_smaller_than_the_processes_is_refused():
    with pytest.raises(BadConfig, match="batch_size 2 is less than the 3 processes that share it: raise it to 3"):
        GlobalBatches(10, 2, 0, rank=0, world=3)


def test_a_crop_depends_on_seed_epoch_and_sample_only(tiny_sample):
    files, numbers = check_folder(tiny_sample).files["train"], images.preprocessing(32)
    one, other = (Photos(files, numbers, augment=True, seed=5) for _ in range(2))
    torch.manual_seed(99)
    other[Pick(1, 3, 1.0)]
    assert torch.equal(one[Pick(2, 4, 1.0)][0], other[Pick(2, 4, 0.5)][0])
    assert not torch.equal(one[Pick(2, 4, 1.0)][0], one[Pick(3, 4, 1.0)][0])


def test_drawing_a_crop_leaves_the_programs_random_numbers_alone(tiny_sample):
    photos = Photos(check_folder(tiny_sample).files["train"], images.preprocessing(32), augment=True, seed=0)
    before = torch.random.get_rng_state()
    photos[Pick(0, 0, 1.0)]
    assert torch.equal(torch.random.get_rng_state(), before)


def test_looking_without_learning_sees_each_sample_once(tiny_sample):
    checked, config = check_folder(tiny_sample), TrainConfig(image_size=32, batch_size=4)
    labels = [label for rank in range(4) for batch in data.loader(checked, "test", config, rank, 4) for label in batch[1].tolist()]
    assert sorted(labels) == [0, 0, 1, 1, 2, 2]


def test_a_file_in_place_of_the_data_folder_is_called_a_file(tmp_path):
    (tmp_path / "dogs.zip").touch()
    with pytest.raises(BadConfig, match="dogs.zip is a file, not a folder"):
        check_folder(tmp_path / "dogs.zip")
