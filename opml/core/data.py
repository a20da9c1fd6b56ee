"""A dogImages folder, checked; and its batches, the same on one process and on many."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from opml.core import images
from opml.core.config import BadConfig, TrainConfig
from opml.core.sample import BREEDS, SPLITS, make_sample

__all__ = ["BREEDS", "SPLITS", "Folder", "GlobalBatches", "Photos", "Pick", "batches", "check_folder", "loader", "make_sample"]

LAYOUT = "it needs train/ valid/ test/, each with one folder a class, NNN.Breed_name"


@dataclass(frozen=True)
class Folder:
    """A checked data folder: the class folders in order, and for each split its files with their class numbers."""

    classes: tuple[str, ...]
    files: dict[str, list[tuple[Path, int]]]

    @property
    def breeds(self) -> list[str]:
        """The names without their numbers: ``001.Affenpinscher`` is Affenpinscher."""
        return [name.split(".", 1)[1] if name.split(".", 1)[0].isdigit() and "." in name else name for name in self.classes]


def check_folder(folder: str | Path) -> Folder:
    """Look at every file of a data folder before a second of training is spent on it.

    Raises
    ------
    BadConfig : missing, empty or incomplete, or it holds a file that is no whole image; one sentence that names it.
    """
    root = Path(folder)
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise BadConfig(f"the data folder {root} {what}: name another with --data ({LAYOUT})")
    if not any(root.iterdir()):
        raise BadConfig(f"the data folder {root} is empty: {LAYOUT}")
    for split in SPLITS:
        if not (root / split).is_dir():
            raise BadConfig(f"the data folder {root} has no {split}/: {LAYOUT}")
    classes = _classes(root)
    files = {split: [(path, i) for i, name in enumerate(classes) for path in _files(root / split / name)] for split in SPLITS}
    for path, _ in (pair for pairs in files.values() for pair in pairs):
        _check_file(path)
    return Folder(classes, files)


def _classes(root: Path) -> tuple[str, ...]:
    """The class folders, the same in all splits."""
    found = {split: {p.name for p in (root / split).iterdir() if p.is_dir() and not p.name.startswith(".")} for split in SPLITS}
    everything = sorted(set.union(*found.values()))
    for name in everything:
        for split in SPLITS:
            if name not in found[split]:
                raise BadConfig(f"class {name} is missing in {root / split}: each class must have a folder in train/, valid/ and test/")
    if len(everything) < 2:
        raise BadConfig(f"{root / 'train'} has {len(everything)} class folders, and telling apart needs 2 or more: {LAYOUT}")
    return tuple(everything)


def _files(place: Path) -> list[Path]:
    """The images of one class; files that the system hides (.DS_Store) do not count."""
    files = sorted(p for p in place.iterdir() if not p.name.startswith("."))
    if not files:
        raise BadConfig(f"{place} has no images: put some there, or delete this class from train/, valid/ and test/")
    return files


def _check_file(path: Path) -> None:
    try:
        if not images.looks_whole(path):
            images.decode(path)
    except images.BadImage as error:
        raise BadConfig(f"{path} cannot be trained on: {error}; delete or replace it") from error
    except OSError as error:
        raise BadConfig(f"{path} cannot be read: {error.strerror or error}") from error


class Pick(NamedTuple):
    """One sample of one epoch; ``weight`` is its part in the loss (see GlobalBatches)."""

    epoch: int
    index: int
    weight: float


class Photos(Dataset):
    """The images of one split; ``photos[pick]`` is (float tensor [3, side, side], class number, weight)."""

    def __init__(self, files: list[tuple[Path, int]], numbers: dict, augment: bool, seed: int):
        self.files, self.seed, self.augment = files, seed, augment
        self.transform = images.train_preset(numbers) if augment else images.eval_preset(numbers)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, pick: Pick) -> tuple[torch.Tensor, int, float]:
        path, label = self.files[pick.index]
        try:
            image = images.decode(path)
        except images.BadImage as error:  # damaged in the middle, where check_folder did not look
            raise BadConfig(f"{path} cannot be trained on: {error}; delete or replace it") from error
        if not self.augment:
            return self.transform(image), label, pick.weight
        # The crop depends on seed, epoch and sample and on nothing else: not on the process or the worker that makes it.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_mix(self.seed, pick.epoch, pick.index))
            return self.transform(image), label, pick.weight


def _mix(seed: int, *numbers: int) -> int:
    """One 63-bit seed of several numbers (the multiplier and the shift are those of splitmix64)."""
    for number in numbers:
        seed = (seed * 0xBF58476D1CE4E5B9 + number + 1) & (2**64 - 1)
        seed ^= seed >> 31
    return seed & (2**63 - 1)


class GlobalBatches(Sampler):
    """This process's part of each global batch.

    The order of an epoch and its global batches depend on the seed only; rank r of N takes samples r::N of each. DDP averages the
    gradients of N processes, so a sample of a global batch of B weighs N/B and the average is exactly the mean over the global
    batch, also for the last one, which is smaller. Every process computes on at least two samples, because batch norm needs
    two values a channel and DDP needs everybody: where there are fewer, other samples fill up and weigh 0.
    """

    def __init__(self, samples: int, batch_size: int, seed: int, rank: int = 0, world: int = 1):
        if batch_size < world:
            raise BadConfig(f"batch_size {batch_size} is less than the {world} processes that share it: raise it to {world} or more")
        self.samples, self.batch_size, self.seed, self.rank, self.world, self.epoch = samples, batch_size, seed, rank, world, 0

    def __len__(self) -> int:
        return -(-self.samples // self.batch_size)

    def __iter__(self) -> Iterator[list[Pick]]:
        order = torch.randperm(self.samples, generator=torch.Generator().manual_seed(_mix(self.seed, self.epoch))).tolist()
        for start in range(0, self.samples, self.batch_size):
            batch = order[start : start + self.batch_size]
            picks = [Pick(self.epoch, index, self.world / len(batch)) for index in batch[self.rank :: self.world]]
            fill = [Pick(self.epoch, order[i % self.samples], 0.0) for i in range(2 - len(picks))]
            yield picks + fill


class _Shares(Sampler):
    """For looking without learning: samples r::N of a split in their order, each once."""

    def __init__(self, samples: int, batch_size: int, rank: int, world: int):
        self.mine, self.batch_size = range(rank, samples, world), batch_size

    def __len__(self) -> int:
        return -(-len(self.mine) // self.batch_size)

    def __iter__(self) -> Iterator[list[Pick]]:
        for start in range(0, len(self.mine), self.batch_size):
            yield [Pick(0, index, 1.0) for index in self.mine[start : start + self.batch_size]]


def loader(folder: Folder, split: str, config: TrainConfig, rank: int = 0, world: int = 1, learn: bool = False) -> DataLoader:
    """Batches (images [n, 3, side, side], class numbers [n], weights [n]) of this process; ``learn`` shuffles and augments."""
    files = folder.files[split]
    photos = Photos(files, images.preprocessing(config.image_size), learn and config.augment, config.seed)
    if learn:
        sampler = GlobalBatches(len(files), config.batch_size, config.seed, rank, world)
    else:
        sampler = _Shares(len(files), max(1, config.batch_size // world), rank, world)
    keep = config.workers > 0
    return DataLoader(
        photos, batch_sampler=sampler, num_workers=config.workers, persistent_workers=keep, pin_memory=torch.cuda.is_available()
    )


def batches(loader: DataLoader) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Iterate; a bad file met in a loader process is reported as one in this process (torch sends its traceback as the message)."""
    try:
        yield from loader
    except BadConfig as error:
        raise BadConfig(str(error).strip().splitlines()[-1].removeprefix(f"{BadConfig.__module__}.BadConfig: ")) from error
