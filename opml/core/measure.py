"""What this machine can do at best, and what the first pass makes of it: python -m opml.core.measure --data DIR --arch resnet50

Prints JSON lines: ``decode`` (all cores), then for each precision ``bound`` (the frozen backbone on decoded tensors in memory, the
best of several settings) and ``first pass`` (files to features), in turns, so that what else the machine does hits both.
"""

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

from opml.core import data, dist, features, images, model, trunk
from opml.core.batches import Photos
from opml.core.config import TrainConfig

ROUNDS = 3  # of each; the best counts
SETTINGS = {"lanes of 4": (4, 1), "lanes of 8": (8, 1), "lanes of 16": (16, 1), "one batch of 16": (16, 0), "one batch of 32": (32, 0)}


def main(argv: list[str] | None = None) -> int:
    """Measure, and print one JSON line a stage."""
    config = TrainConfig.from_args(argv, description=__doc__.splitlines()[0])
    folder, numbers = data.check_folder(config.data), images.preprocessing(config.image_size)
    photos = {split: Photos(files, numbers, config.seed) for split, files in folder.files.items()}
    body, _ = trunk.cut(model.build(config, len(folder.classes))[0], "backbone")
    _print(stage="decode", images_per_second=max(_decode(photos) for _ in range(ROUNDS)))
    for precision in ("float32", "bfloat16"):
        frozen = trunk.Trunk(body, numbers, dist.device(), precision)
        _compare(precision, frozen, photos)
    return 0


def _compare(precision: str, frozen: trunk.Trunk, photos: dict[str, Photos]) -> None:
    best, passes = dict.fromkeys(SETTINGS, 0.0), []
    for _ in range(ROUNDS):
        for name, (batch, alone) in SETTINGS.items():
            best[name] = max(best[name], bound(frozen, photos["train"].pixels(0), batch, bool(alone)))
        passes.append(first_pass(frozen, photos))
    setting = max(best, key=best.get)
    _print(stage="bound", precision=precision, setting=setting, images_per_second=best[setting])
    _print(stage="first pass", precision=precision, images_per_second=max(passes), of_bound=max(passes) / best[setting])


def bound(frozen: trunk.Trunk, picture: torch.Tensor, batch: int, lanes: bool, everything: int = 96) -> float:
    """Images per second through the trunk, decoded and normalised before; in lanes of one thread each, or one batch on all threads."""
    inputs = images.to_input(picture.expand(batch, -1, -1, -1).contiguous(), frozen.numbers).to(frozen.device, frozen.dtype)
    work = torch.inference_mode()(lambda _: frozen.network(inputs))
    return _rate(batch * (everything // batch), lambda: _run(work, everything // batch, features.lanes(frozen.device) if lanes else 0))


def _run(work: Callable, times: int, lanes: int) -> None:
    if not lanes:
        return [work(i) for i in range(times)].clear()
    with trunk.one_thread(), ThreadPoolExecutor(lanes, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        list(pool.map(work, range(times)))


def first_pass(frozen: trunk.Trunk, photos: dict[str, Photos]) -> float:
    """Images per second from files to features."""
    return _rate(len(features.jobs(photos, 1)), lambda: features.extract(frozen, photos, 1, lambda *_: None))


def _decode(photos: dict[str, Photos]) -> float:
    todo = features.jobs(photos, 1)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return _rate(len(todo), lambda: list(pool.map(lambda job: photos[job.split].pixels(job.index), todo)))


def _rate(count: int, work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return count / (time.perf_counter() - started)


def _print(**row: object) -> None:
    print(json.dumps({name: round(value, 3) if isinstance(value, float) else value for name, value in row.items()}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
