"""opml.core.batches: the same batches on one process and on many, and pictures that depend on seed, view and sample only."""

import os
import shutil

import pytest
import torch

from opml.core import batches, images, inputs, system
from opml.core.batches import GlobalBatches, Photos, Pick
from opml.core.config import BadConfig
from opml.core.data import check_folder

FIRST = "train/001.Affenpinscher/Affenpinscher_00000.jpg"


def photos(folder, split="train", seed=0):
    return Photos(check_folder(folder).files[split], images.preprocessing(32), seed)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_turns_out_damaged_while_training_is_named(tiny_sample, tmp_path, workers):
    folder = shutil.copytree(tiny_sample, tmp_path / "data")
    some = photos(folder)
    (folder / FIRST).write_bytes((folder / FIRST).read_bytes()[: (folder / FIRST).stat().st_size // 2])
    with pytest.raises(BadConfig, match=r"^\S*Affenpinscher_00000.jpg cannot be trained on: the image is cut short or damaged; [^\n]*$"):
        list(batches.read(some, GlobalBatches(18, 18, 0).epoch(1), workers))


def test_a_file_that_the_disk_does_not_give_is_named(tiny_sample, tmp_path):
    some = photos(folder := shutil.copytree(tiny_sample, tmp_path / "data"))
    (folder / FIRST).unlink()
    with pytest.raises(BadConfig, match=r"^\S*Affenpinscher_00000.jpg cannot be read: No such file or directory$"):
        some.pixels(0)


def test_the_cores_of_a_machine_are_shared_by_its_processes(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)))
    assert system.cores() == 16
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert system.cores() == 4 == inputs.Pictures({}, torch.device("cpu")).loaders
    assert inputs.Pictures({}, torch.device("cpu"), workers=3).loaders == 3


@pytest.mark.parametrize("samples, batch_size", [(17, 5), (16, 4), (9, 8), (3, 8)])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_processes_share_the_global_batches_of_one(samples, batch_size, world):
    alone = [[pick.index for pick in batch if pick.weight] for batch in GlobalBatches(samples, batch_size, 3).epoch(0)]
    ranks = [list(GlobalBatches(samples, batch_size, 3, rank, world).epoch(0)) for rank in range(world)]
    for number, whole in enumerate(alone):
        shares = [[pick.index for pick in part[number] if pick.weight] for part in ranks]
        assert shares == [whole[rank::world] for rank in range(world)]
    assert sorted(sum(alone, [])) == list(range(samples))


def test_each_epoch_has_its_own_order():
    first, second = ([pick.index for pick in next(GlobalBatches(12, 12, 0).epoch(number))] for number in (1, 2))
    assert first != second and sorted(first) == sorted(second)


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_the_average_of_the_processes_gradients_is_the_mean_over_the_global_batch(world):
    values = torch.arange(1.0, 12.0, dtype=torch.float64)  # the gradient of w * value with respect to w
    ranks = [list(GlobalBatches(len(values), 5, 0, rank, world).epoch(0)) for rank in range(world)]
    for number, whole in enumerate(GlobalBatches(len(values), 5, 0).epoch(0)):
        gradients = [sum(values[pick.index] * pick.weight for pick in part[number]) for part in ranks]
        wanted = values[[pick.index for pick in whole if pick.weight]].mean()
        assert torch.isclose(sum(gradients) / world, wanted)


def test_every_process_has_two_samples_for_its_batch_norm():
    assert {len(batch) for rank in range(3) for batch in GlobalBatches(7, 6, 0, rank, 3).epoch(0)} == {2}


def test_a_global_batch_smaller_than_the_processes_is_refused():
    with pytest.raises(BadConfig, match="batch_size 2 is less than the 3 processes that share it: raise it to 3"):
        GlobalBatches(10, 2, 0, rank=0, world=3)


def test_a_random_part_depends_on_seed_view_and_sample_only(tiny_sample):
    one, other = photos(tiny_sample, seed=5), photos(tiny_sample, seed=5)
    other.pixels(3, view=1)
    assert torch.equal(one.pixels(4, view=2), other.pixels(4, view=2))
    assert not torch.equal(one.pixels(4, view=2), one.pixels(4, view=3))
    assert not torch.equal(one.pixels(4, view=2), photos(tiny_sample, seed=6).pixels(4, view=2))


def test_drawing_a_part_leaves_the_programs_random_numbers_alone(tiny_sample):
    before = torch.random.get_rng_state()
    photos(tiny_sample).pixels(0, view=1)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_looking_without_learning_sees_each_sample_once(tiny_sample):
    some = photos(tiny_sample, "test")
    labels = [label for rank in range(4) for batch in batches.read(some, batches.shares(6, 1, rank, 4)) for label in batch.labels.tolist()]
    assert sorted(labels) == [0, 0, 1, 1, 2, 2]


def test_batches_come_in_order_and_a_reader_may_stop_in_the_middle(tiny_sample):
    picks = [[Pick(0, index, 1.0)] for index in range(18)]
    reader = batches.read(photos(tiny_sample), iter(picks), workers=3)
    first = [next(reader) for _ in range(4)]
    reader.close()
    assert all(torch.equal(batch.inputs[0], photos(tiny_sample).pixels(index)) for index, batch in enumerate(first))
