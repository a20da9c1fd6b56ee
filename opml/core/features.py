"""Features computed once: a frozen trunk gives the same answer in each epoch, so each view of each image goes through it once.

Every thread (a lane) decodes a few images and computes on them with one thread of its own: decoding and computing share the cores
without waiting for each other, and a feature depends neither on the number of threads nor on that of processes, to the last bit.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch

from opml.core import dist, system
from opml.core.batches import Batch, Photos, Pick
from opml.core.trunk import Trunk, one_thread

LANE_BATCH = {"cpu": 4, "cuda": 64}  # images that go through the trunk together: of a size, because sums depend on it in the last bits
MOST = 2**30  # bytes of features that each process keeps; above that they are computed in each epoch


class Job(NamedTuple):
    """One image to compute on."""

    split: str
    view: int
    index: int


def jobs(photos: dict[str, Photos], views: int) -> list[Job]:
    """All that is to be computed: each image of train/ in each view, all others in their only one."""
    return [
        Job(split, view, i) for split, some in photos.items() for view in range(views if split == "train" else 1) for i in range(len(some))
    ]


def extract(trunk: Trunk, photos: dict[str, Photos], views: int, report: Callable[[int, int, float], None], workers: int = 0) -> "Features":
    """The features of all images, computed by all processes together and then held by each.

    Parameters
    ----------
    report : called with (images done, images in all, seconds) now and then, by one process.
    workers : threads that decode and compute; 0: see :func:`lanes`.
    """
    todo, size = jobs(photos, views), LANE_BATCH[trunk.device.type]
    groups = [todo[start : start + size] for start in range(0, len(todo), size)]
    groups[-1] = groups[-1] + groups[-1][-1:] * (size - len(groups[-1]))  # the last is filled up, and cut again below
    mine = groups[dist.rank() :: dist.world()]
    count = _Counter(len(mine) * size, report)
    threads = workers or lanes(trunk.device)  # asked before each operation is given one thread
    with one_thread(), ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        done = [pool.submit(_compute, trunk, photos, group, count) for group in mine]
        try:
            parts = [future.result() for future in done]
        finally:
            pool.shutdown(cancel_futures=True)
    return Features(photos, views, dist.gather_dealt(parts, len(groups), (size, *trunk.shape))[: len(todo)])


def _compute(trunk: Trunk, photos: dict[str, Photos], group: list[Job], count: "_Counter") -> torch.Tensor:
    pixels = torch.stack([photos[job.split].pixels(job.index, job.view) for job in group])
    features = trunk(pixels.pin_memory() if trunk.device.type == "cuda" else pixels).cpu()
    count.add(len(group))
    return features


def bytes_needed(trunk: Trunk, photos: dict[str, Photos], views: int) -> int:
    """The memory that the features of all images take."""
    return len(jobs(photos, views)) * math.prod(trunk.shape) * 4


def lanes(device: torch.device) -> int:
    """How many threads decode and compute: as many as torch would use, or as there are cores to feed a GPU."""
    return system.cores() if device.type == "cuda" else torch.get_num_threads()


class _Counter:
    """Counts what all lanes have done."""

    def __init__(self, everything: int, report: Callable[[int, int, float], None]):
        self.done, self.everything, self.report = 0, everything, report
        self.lock, self.started = threading.Lock(), time.perf_counter()

    def add(self, images: int) -> None:
        with self.lock:
            self.done += images
            self.report(self.done * dist.world(), self.everything * dist.world(), time.perf_counter() - self.started)


class Features:
    """Inputs of the tail, in memory: the same iterators as :class:`opml.core.inputs.Pictures` has.

    Parameters
    ----------
    everything : features of :func:`jobs`, in that order [images x views, ...], float32.
    """

    loaders = 0  # threads: nothing is loaded any more

    def __init__(self, photos: dict[str, Photos], views: int, everything: torch.Tensor):
        self.views, self.labels, self.tensors, start = views, {}, {}, 0
        for split, some in photos.items():
            times = views if split == "train" else 1
            self.tensors[split] = everything[start : start + times * len(some)].unflatten(0, (times, len(some)))
            self.labels[split] = torch.tensor([some.label(index) for index in range(len(some))])
            start += times * len(some)

    def batches(self, split: str, picks: Iterator[list[Pick]]) -> Iterator[Batch]:
        """Inputs [n, ...], class numbers and weights of each list of picks."""
        features, labels = self.tensors[split], self.labels[split]
        for batch in picks:
            index = torch.tensor([pick.index for pick in batch])
            yield Batch(features[batch[0].view, index], labels[index], torch.tensor([pick.weight for pick in batch]))
