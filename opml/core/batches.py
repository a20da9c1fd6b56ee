"""The batches of a job: the same on one process and on many, decoded by threads while the processor computes."""

import random
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch

from opml.core import images, system
from opml.core.config import BadConfig

AHEAD = 2  # batches that are decoded while one is computed on


class Pick(NamedTuple):
    """One view of one sample; ``weight`` is its part in the loss (see GlobalBatches)."""

    view: int
    index: int
    weight: float


class Batch(NamedTuple):
    """What a step computes on: pictures or features [n, ...], class numbers [n], weights [n]."""

    inputs: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor


class Photos:
    """The images of one split; ``pixels(index, view)`` is uint8 [side, side, 3]: view 0 the middle, every other a random part."""

    def __init__(self, files: list[tuple[Path, int]], numbers: dict, seed: int = 0):
        self.files, self.numbers, self.seed = files, numbers, seed

    def __len__(self) -> int:
        return len(self.files)

    def label(self, index: int) -> int:
        """The class number of one image."""
        return self.files[index][1]

    def pixels(self, index: int, view: int = 0) -> torch.Tensor:
        """Decode one image.

        Raises
        ------
        BadConfig : it is damaged in the middle, where data.check_folder did not look, or the disk fails.
        """
        path = self.files[index][0]
        try:
            image = images.decode(path)
        except images.BadImage as error:
            raise BadConfig(unreadable(path, error)) from error
        except OSError as error:
            raise BadConfig(f"{path} cannot be read: {error.strerror or error}") from error
        if view == 0:
            return images.middle(image, self.numbers)
        # The part depends on seed, view and sample and on nothing else: not on the process or the thread that cuts it out.
        return images.random_part(image, self.numbers, random.Random(mix(self.seed, view, index)))


def unreadable(path: Path, error: images.BadImage) -> str:
    """What is said about a file that is no whole image."""
    return f"{path} cannot be trained on: {error}; delete or replace it, or leave such files out with --skip_unreadable True"


def mix(seed: int, *numbers: int) -> int:
    """One 63-bit seed of several numbers (the multiplier and the shift are those of splitmix64)."""
    for number in numbers:
        seed = (seed * 0xBF58476D1CE4E5B9 + number + 1) & (2**64 - 1)
        seed ^= seed >> 31
    return seed & (2**63 - 1)


class GlobalBatches:
    """This process's part of each global batch.

    The order of an epoch and its global batches depend on the seed only; rank r of N takes samples r::N of each. DDP averages the
    gradients of N processes, so a sample of a global batch of B weighs N/B and the average is exactly the mean over the global
    batch, also for the last one, which is smaller. Every process computes on at least two samples, because batch norm needs
    two values a channel and DDP needs everybody: where there are fewer, other samples fill up and weigh 0.
    """

    def __init__(self, samples: int, batch_size: int, seed: int, rank: int = 0, world: int = 1):
        if batch_size < world:
            raise BadConfig(f"batch_size {batch_size} is less than the {world} processes that share it: raise it to {world} or more")
        self.samples, self.batch_size, self.seed, self.rank, self.world = samples, batch_size, seed, rank, world

    def __len__(self) -> int:
        return -(-self.samples // self.batch_size)

    def epoch(self, number: int, view: int = 0) -> Iterator[list[Pick]]:
        """The batches of one epoch; all samples are seen in the same view."""
        order = torch.randperm(self.samples, generator=torch.Generator().manual_seed(mix(self.seed, number))).tolist()
        for start in range(0, self.samples, self.batch_size):
            batch = order[start : start + self.batch_size]
            picks = [Pick(view, index, self.world / len(batch)) for index in batch[self.rank :: self.world]]
            fill = [Pick(view, order[i % self.samples], 0.0) for i in range(2 - len(picks))]
            yield picks + fill


def shares(samples: int, batch_size: int, rank: int = 0, world: int = 1) -> Iterator[list[Pick]]:
    """For looking without learning: samples r::N of a split in their order, each once."""
    mine = range(rank, samples, world)
    for start in range(0, len(mine), batch_size):
        yield [Pick(0, index, 1.0) for index in mine[start : start + batch_size]]


def read(photos: Photos, picks: Iterable[list[Pick]], workers: int = 0) -> Iterator[Batch]:
    """Decode batches ahead of who computes on them: inputs are pixels [n, side, side, 3], uint8, pinned where there is a GPU.

    Threads, not processes: Pillow lets other threads run while it decodes and scales, and nothing is copied between processes.
    """
    with ThreadPoolExecutor(workers or system.cores()) as pool:
        ahead: deque = deque()
        try:
            for batch in picks:
                ahead.append((batch, [pool.submit(photos.pixels, pick.index, pick.view) for pick in batch]))
                if len(ahead) > AHEAD:
                    yield _batch(photos, *ahead.popleft())
            while ahead:
                yield _batch(photos, *ahead.popleft())
        finally:  # who stops reading in the middle does not wait for the rest
            pool.shutdown(wait=False, cancel_futures=True)


def _batch(photos: Photos, picks: list[Pick], pixels: list) -> Batch:
    inputs = torch.stack([future.result() for future in pixels])
    labels = torch.tensor([photos.label(pick.index) for pick in picks])
    return Batch(inputs.pin_memory() if torch.cuda.is_available() else inputs, labels, torch.tensor([pick.weight for pick in picks]))
