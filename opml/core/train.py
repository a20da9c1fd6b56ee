"""Training from top to bottom: join, check, learn, keep the best, test once, save."""

import dataclasses
import json
import math
import os
import platform
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import torch
import torchvision

from opml.core import data, dist, features, images, loop, metrics, model, trunk, watch
from opml.core.batches import GlobalBatches, Photos, Pick, shares
from opml.core.config import BadConfig, TrainConfig
from opml.core.inputs import Pictures
from opml.core.loop import evaluate
from opml.core.observer import Observer
from opml.core.progress import Progress, say

__all__ = ["Job", "evaluate", "fit", "say", "write_metrics"]

METRICS_FILE = "metrics.json"


def fit(config: TrainConfig, observer: Observer | None = None) -> dict[str, float]:
    """Train one network, on this process or together with the others of its job.

    Returns
    -------
    The final metrics, by the names of :mod:`opml.core.metrics`; those of training and validation are the best epoch's.

    Raises
    ------
    BadConfig : a setting, the data, the weights or the output folders cannot be worked with.
    """
    final = None
    folder = data.check_folder(config.data, config.skip_unreadable)
    network, source = model.build(config, len(folder.classes))
    model.check_space(config.model_dir, "model_dir", model.state_bytes(network))
    model.check_space(config.output_dir, "output_dir", 0)
    dist.join()
    observer = observer or watch.observers(config)
    try:
        final = Job(config, folder, network, source, observer).run()
    finally:
        observer.end(final)
        dist.leave()
    return final


class Job:
    """One training job; ``run`` is the order of things."""

    def __init__(self, config: TrainConfig, folder: data.Folder, network: torch.nn.Module, source: str | None, observer: Observer):
        self.config, self.folder, self.device, self.observer = config, folder, dist.device(), observer
        self.progress = Progress(config.price_per_hour)
        self.source = dist.from_main(source)  # what rank 0 could get counts, its weights go to all
        self.freeze = {"auto": "none" if self.source is None else "backbone"}.get(config.freeze, config.freeze)
        self.network = network.to(self.device, memory_format=torch.channels_last)  # convolutions are faster in this layout
        dist.copy_from_main(self.network)
        numbers = images.preprocessing(config.image_size)
        self.photos = {split: Photos(files, numbers, config.seed) for split, files in folder.files.items()}
        self.views = config.views if config.augment else 1
        self.history: list[dict[str, float]] = []
        self.best: dict | None = None

    def run(self) -> dict[str, float]:
        self._announce()
        _be_reproducible(self.config.seed)
        self.inputs = self._inputs()
        # A head alone is so small that sharing its batches would cost more than it saves: each process computes on all of them.
        together = not (self.freeze == "backbone" and isinstance(self.inputs, features.Features))
        self.rank, self.world = (dist.rank(), dist.world()) if together else (0, 1)
        batches = GlobalBatches(len(self.photos["train"]), self.config.batch_size, self.config.seed, self.rank, self.world)
        with nullcontext() if together else trunk.one_thread():
            self.learner = loop.Learner(
                self.tail, self.config, self.config.epochs * len(batches), together, self._trained_in(), self.observer
            )
            self.observer.start(self.config, self.tail, self.learner.optimizer, (len(batches), len(list(self._looks("valid")))))
            self.begun = self.progress.seconds()
            for epoch in range(1, self.config.epochs + 1):
                self._epoch(epoch, batches)
                if self._is_over(epoch) or self.observer.stop:
                    break
            return self._finish()

    def _inputs(self) -> features.Features | Pictures:
        """What the trained part sees: features computed once, or pictures in each epoch; the log says which, and why."""
        if self.freeze == "none":
            self.tail = self.network
            say(f"pictures decoded in each epoch: nothing is frozen, so nothing can be computed once; trained in {self._trained_in()}")
            return Pictures(self.photos, self.device, workers=self.config.workers)
        body, self.tail = trunk.cut(self.network, self.freeze)
        body.requires_grad_(False)
        if self.observer.whole:
            self.tail = self.network
            say(f"all of the network runs in each step ({self.freeze} frozen): smdebug's hook sees only what runs through it")
            return Pictures(self.photos, self.device, workers=self.config.workers)
        precision = self.config.precision
        if precision == "auto":
            precision = dist.from_main(trunk.fastest_precision(self.device) if dist.is_main() else None)
        frozen = trunk.Trunk(body, images.preprocessing(self.config.image_size), self.device, precision)
        how = f"{self.freeze} frozen, {_views(self.config)}, {precision}"
        if self.config.features == "each_epoch":
            say(f"features computed in each epoch, as asked for ({how})")
        elif (need := features.bytes_needed(frozen, self.photos, self.views)) > features.MOST:
            say(
                f"features computed in each epoch ({how}): to keep them takes {need / 1e9:.1f} GB, at most {features.MOST / 1e9:.1f} GB are kept"
            )
        else:
            return self._extract(frozen, how)
        return Pictures(self.photos, self.device, frozen, self.config.workers)

    def _extract(self, frozen: trunk.Trunk, how: str) -> features.Features:
        count = len(features.jobs(self.photos, self.views))
        say(f"features computed once ({how}): {count} pictures go through the frozen part, not {count} in each epoch")
        begun = self.progress.seconds()
        done = features.extract(frozen, self.photos, self.views, lambda *numbers: self.progress.within("features", *numbers))
        seconds = self.progress.seconds() - begun
        say(f"features of {count} pictures in {seconds:.1f} s, {count / seconds:.1f} images/s{self.progress.cost()}")
        return done

    def _trained_in(self) -> torch.dtype:
        """The precision of the trained part: on a GPU the mixed one, on a CPU float32 unless bfloat16 was asked for."""
        asked = self.config.precision
        if self.observer.whole:
            return torch.float32  # smdebug cannot save bfloat16
        if asked == "auto":
            asked = trunk.fastest_precision(self.device) if self.device.type == "cuda" else "float32"
        return trunk.DTYPES[asked if self.freeze != "backbone" else "float32"]

    def _view(self, epoch: int) -> int:
        """Where nothing is frozen each epoch has random parts of its own; else the views take turns, the middle first."""
        if self.freeze == "none":
            return epoch if self.config.augment else 0
        return (epoch - 1) % self.views

    def _announce(self) -> None:
        config = self.config
        say(dist.describe())
        say(f"data {config.data}: {len(self.folder.classes)} classes, {self.folder.counts()}")
        if self.folder.skipped:
            say(
                "\n".join(
                    [f"{len(self.folder.skipped)} images cannot be decoded and are left out (--skip_unreadable):", *self.folder.skipped]
                )
            )
        kept = {"none": "nothing is frozen", "backbone": "only its last layer is trained"}.get(self.freeze, f"frozen up to {self.freeze}")
        if self.source is None:
            why = {"none": "none were asked for", "auto": "ImageNet's could not be had"}[config.weights]
            also = "" if self.freeze == "none" else f"; WARNING: --freeze {config.freeze} freezes random weights"
            say(f"{config.arch} starts without pretrained weights ({why}), {'so ' if not also else ''}{kept}{also}")
        else:
            say(f"{config.arch} starts from weights: {self.source}; {kept}")

    def _epoch(self, epoch: int, batches: GlobalBatches) -> None:
        """Learn, look at validation, remember the best."""
        begun, train = self.progress.seconds(), self.inputs.batches("train", batches.epoch(epoch, self._view(epoch)))
        images_in_all = len(self.photos["train"])
        loss, count = self.learner.epoch(
            train, lambda done: self.progress.within(f"epoch {epoch}", done, images_in_all, self.progress.seconds() - begun)
        )
        if not math.isfinite(loss):
            raise BadConfig(f"the loss became {loss} in epoch {epoch}: lower --learning_rate, it is {self.config.learning_rate}")
        speed = count / (self.progress.seconds() - begun)
        dist.average_buffers(self.tail)
        valid_loss, valid_accuracy = self.learner.look(self._share("valid"))
        row = {
            "epoch": epoch,
            metrics.TRAIN_LOSS.name: loss,
            "images_per_second": speed,
            metrics.VALID_LOSS.name: valid_loss,
            metrics.VALID_ACCURACY.name: valid_accuracy,
        }
        self._keep(dist.from_main(row))  # what rank 0 has seen counts: all must take the same decisions
        self._report(row)
        self.observer.epoch(row)

    def _share(self, split: str):
        return self.inputs.batches(split, self._looks(split))

    def _looks(self, split: str) -> Iterator[list[Pick]]:
        return shares(len(self.photos[split]), max(1, self.config.batch_size // self.world), self.rank, self.world)

    def _keep(self, row: dict[str, float]) -> None:
        """Remember the weights of the epoch with the smallest validation loss; of two that are equal the first."""
        self.history.append(row)
        loss = row[metrics.VALID_LOSS.name]
        loss = loss if math.isfinite(loss) else math.inf  # nothing is smaller than nan: it would stay the best for ever
        if self.best is None or loss < self.best["loss"]:
            state = {name: value.detach().clone() for name, value in self.tail.state_dict().items()}
            self.best = {"row": row, "loss": loss, "state": state}

    def _is_over(self, epoch: int) -> bool:
        patience, best = self.config.patience, self.best["row"]["epoch"]
        over = bool(patience) and epoch - best >= patience and epoch < self.config.epochs
        if over:
            say(f"ended after epoch {epoch}: the validation loss was smallest in epoch {best} (--patience {patience})")
        return over

    def _report(self, row: dict[str, float]) -> None:
        epoch, epochs = row["epoch"], self.config.epochs
        left = (self.progress.seconds() - self.begun) / epoch * (epochs - epoch)
        numbers = _lines(row, metrics.TRAIN_LOSS, metrics.VALID_LOSS, metrics.VALID_ACCURACY)
        say(f"epoch {epoch}/{epochs}: {numbers} {row['images_per_second']:.0f} images/s, about {left:.0f} s left{self.progress.cost()}")

    def _finish(self) -> dict[str, float]:
        """Go back to the best weights, look at the test split for the only time, and save."""
        row = self.best["row"]
        self.tail.load_state_dict(self.best["state"])
        # Printed again because a tuner takes the last value of the log, and the model that is saved is this one.
        say(f"best epoch {row['epoch']}: {_lines(row, metrics.VALID_LOSS, metrics.VALID_ACCURACY)}")
        test_loss, test_accuracy = dist.from_main(self.learner.look(self._share("test"), "test"))
        final = {m.name: row[m.name] for m in (metrics.TRAIN_LOSS, metrics.VALID_LOSS, metrics.VALID_ACCURACY)}
        final |= {metrics.TEST_LOSS.name: test_loss, metrics.TEST_ACCURACY.name: test_accuracy}
        say(_lines(final, metrics.TEST_LOSS, metrics.TEST_ACCURACY))
        weights = dist.check_equal(self.network.state_dict())
        say(f"weights sha256 {weights}, equal on {dist.world()} process{'es' if dist.world() > 1 else ''}")
        if dist.is_main():
            self._save(final, weights)
        say(f"done in {self.progress.seconds():.1f} s{self.progress.cost()}")
        return final

    def _save(self, final: dict[str, float], weights: str) -> None:
        config = self.config
        trained = {
            "config": dataclasses.asdict(config),
            "weights_from": self.source,
            "frozen": self.freeze,
            "processes": dist.world(),
            "best_epoch": self.best["row"]["epoch"],
            "metrics": final,
            "weights_sha256": weights,
            "skipped": list(self.folder.skipped),
            "versions": versions(),
        }
        description = {
            "architecture": config.arch,
            "classes": self.folder.breeds,
            "preprocessing": images.preprocessing(config.image_size),
            "trained": trained,
        }
        model.save(config.model_dir, self.network.state_dict(), description)
        say(f"model saved to {config.model_dir}")
        write_metrics(config.output_dir, {"history": self.history, **trained})


def _views(config: TrainConfig) -> str:
    if not config.augment:
        return "no augmentation"
    return (
        f"{config.views} views of each training image"
        if config.views > 1
        else "one view of each image, not augmented: --views N makes more"
    )


def _lines(row: dict[str, float], *which: metrics.Metric) -> str:
    return " ".join(metric.line(row[metric.name]) for metric in which)


def _be_reproducible(seed: int) -> None:
    """Same seed, same machine, same numbers; on a GPU at the price of some speed."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.manual_seed(seed)
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # a guard against reading what was never written; costs time
    torch.set_flush_denormal(True)  # Adam's averages of tiny gradients end there, and a CPU computes with them many times slower


def versions() -> dict[str, str]:
    """What the model was trained with."""
    return {"python": platform.python_version(), "torch": torch.__version__, "torchvision": torchvision.__version__}


def write_metrics(output_dir: str | Path, content: dict) -> None:
    """``metrics.json``: one row an epoch, and the end.

    Raises
    ------
    BadConfig : it cannot be written.
    """
    try:
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        Path(output_dir, METRICS_FILE).write_text(json.dumps(content, indent=2))
    except OSError as error:
        raise BadConfig(f"the metrics cannot be written to {output_dir} ({error.strerror or error}): name another --output_dir") from error
