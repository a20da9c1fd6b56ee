"""Training from top to bottom: join, check, learn, keep the best, test once, save."""

import dataclasses
import itertools
import math
import os
from collections.abc import Iterator
from contextlib import nullcontext

import torch

from opml.core import data, dist, features, images, loop, metrics, model, plan, trunk, watch
from opml.core.batches import GlobalBatches, Photos, Pick, shares
from opml.core.config import BadConfig, TrainConfig
from opml.core.keeper import Keeper, Position
from opml.core.observer import Observer
from opml.core.progress import Progress, say
from opml.core.stopping import Stopped, Stopping


def fit(config: TrainConfig, observer: Observer | None = None) -> dict[str, float]:
    """Train one network, on this process or together with the others of its job.

    Returns
    -------
    The final metrics, by the names of :mod:`opml.core.metrics`; those of training and validation are the best epoch's.

    Raises
    ------
    BadConfig : a setting, the data, the weights or the output folders cannot be worked with; or the loss exploded, and then the best model
        so far is written.
    dist.Lost : another process of the job is gone.
    Stopped : SIGTERM came; a checkpoint is written, if they are asked for, and the best model so far.
    """
    final = None
    dist.join(config.join)
    observer = observer or watch.observers(config)
    try:
        final = _prepare(config, observer).run()
    except Stopped:  # the others were asked, too
        raise
    except Exception as error:
        dist.fail(error)
        raise
    finally:
        try:
            watch.end(observer, final)
        finally:
            dist.leave()
    return final


def _prepare(config: TrainConfig, observer: Observer) -> "Job":
    """Look at everything that may be wrong before a second of training is spent."""
    progress = Progress(config.price_per_hour)
    copies = dist.check_joined(config.require_distributed)
    say("\n".join([*([copies] if copies else []), dist.describe()]))
    folder = data.check_folder(config.data, config.skip_unreadable)
    if folder.skipped:
        say("\n".join([f"{len(folder.skipped)} images cannot be decoded and are left out (--skip_unreadable):", *folder.skipped]))
    dist.agree("the data", folder.fingerprint(), folder.counts())
    dist.agree("the settings", repr(sorted(config.hyperparameters().items())), repr(config))
    network, source = model.build(config, len(folder.classes))
    model.check_space(config.model_dir, "model_dir", model.state_bytes(network))
    model.check_space(config.output_dir, "output_dir", 0)
    return Job(config, folder, network, source, observer, progress)


class Job:
    """One training job; ``run`` is the order of things."""

    def __init__(
        self,
        config: TrainConfig,
        folder: data.Folder,
        network: torch.nn.Module,
        source: str | None,
        observer: Observer,
        progress: Progress,
    ):
        self.config, self.folder, self.device, self.observer, self.progress = config, folder, dist.device(), observer, progress
        self.source = dist.from_main(source)  # what rank 0 could get counts, its weights go to all
        self.freeze = plan.frozen_part(config, self.source)
        self.network = network.to(self.device)
        dist.copy_from_main(self.network)
        numbers = images.preprocessing(config.image_size)
        self.photos = {split: Photos(files, numbers, config.seed) for split, files in folder.files.items()}
        self.history: list[dict[str, float]] = []
        self.best: dict | None = None

    def run(self) -> dict[str, float]:
        config = self.config
        say(f"data {config.data}: {len(self.folder.classes)} classes, {self.folder.counts()}")
        say(plan.describe(config, self.source, self.freeze))
        _be_reproducible(config.seed)
        self.keeper = Keeper(config, self.freeze, self.network, self.source, self.folder)
        precision = self.keeper.kept["precision"] if self.keeper.kept else plan.frozen_in(config, self.freeze, self.device)
        whole = self.observer.whole
        self.inputs, self.tail = plan.inputs(config, self.network, self.freeze, precision, self.photos, self.device, self.progress, whole)
        # A head alone is so small that sharing its batches would cost more than it saves: each process computes on all of them.
        together = not (self.freeze == "backbone" and isinstance(self.inputs, features.Features))
        self.rank, self.world = (dist.rank(), dist.world()) if together else (0, 1)
        with nullcontext() if together else trunk.one_thread(), Stopping(together) as self.stopping:
            self._learn(together, precision)
            return self._finish()

    def _learn(self, together: bool, precision: str) -> None:
        config = self.config
        batches = self.order = GlobalBatches(len(self.photos["train"]), config.batch_size, config.seed, self.rank, self.world)
        dtype = plan.trained_in(config, self.freeze, self.device)
        dtype = torch.float32 if self.observer.whole else dtype  # smdebug cannot save bfloat16
        self.learner = loop.Learner(self.tail, config, config.epochs * len(batches), together, dtype, self.observer)
        start = self.keeper.begin(self.learner, self.stopping, precision, self.progress, self._save_so_far)
        if self.keeper.kept:
            self.history, self.best = self.keeper.kept["history"], self.keeper.kept["best"]
            self.keeper.kept = None  # it is four times the weights
        self.observer.loading(self.inputs.loaders)
        self.observer.start(config, self.tail, self.learner.optimizer, (len(batches), len(list(self._picks("valid")))))
        for epoch in range(start.epoch, config.epochs + 1):
            if self._is_over(epoch - 1):
                break
            self._epoch(start if epoch == start.epoch else Position(epoch))
            if self.observer.stop:
                say(f"stopped in epoch {epoch} of {config.epochs} because of a finding (--on_finding stop): the best model so far is kept")
                break

    def _epoch(self, start: Position) -> None:
        """Learn, look at validation, remember the best."""
        epoch, begun = start.epoch, self.progress.seconds()
        loss, count = self._steps(start)
        if not math.isfinite(loss):
            remedy = f"lower --learning_rate, it is {self.config.learning_rate}"
            raise BadConfig(f"the loss became {loss} in epoch {epoch}: {remedy}; {self._save_so_far()}")
        speed = (count - self._before(start)) / (self.progress.seconds() - begun)
        dist.average_buffers(self.tail)
        valid_loss, valid_accuracy = self._look("valid")
        row = {"epoch": epoch, metrics.TRAIN_LOSS.name: loss, "images_per_second": speed}
        row |= {metrics.VALID_LOSS.name: valid_loss, metrics.VALID_ACCURACY.name: valid_accuracy}
        self._keep(dist.from_main(row))  # what rank 0 has seen counts: all must take the same decisions
        self._report(row)
        self.observer.epoch(row)
        last = epoch == self.config.epochs or self.observer.stop
        self.keeper.after_epoch(Position(self.config.epochs + 1 if last else epoch + 1), last, self.history, self.best)

    def _steps(self, start: Position) -> tuple[float, int]:
        """The steps of an epoch that are left: (mean loss, samples) of all of it."""
        epoch, begun, everything = start.epoch, self.progress.seconds(), len(self.photos["train"])
        picks = itertools.islice(self.order.epoch(epoch, self._view(epoch)), start.step, None)
        return self.learner.epoch(
            self.inputs.batches("train", picks),
            lambda done: self.progress.within(f"epoch {epoch}", done, everything, self.progress.seconds() - begun, self._before(start)),
            start.loss,
            start.count,
            lambda loss, count: self._after_step(epoch, loss, count),
        )

    def _before(self, start: Position) -> int:
        """Images of the epoch that an earlier life of the job has learned from."""
        return min(start.step * self.config.batch_size, len(self.photos["train"]))

    def _after_step(self, epoch: int, loss: torch.Tensor, count: int) -> None:
        done = self.learner.step - (epoch - 1) * len(self.order)
        self.keeper.after_step(Position(epoch, done, loss, count), done == len(self.order), self.history, self.best)

    def _save_so_far(self) -> str:
        """The best model of the epochs that are over: a job that is stopped, or that explodes, uploads it. What happened, in words."""
        if self.best is None:
            return "no model yet, because no epoch was over"
        row, state = self.best["row"], self.network.state_dict() | self.best["state"]
        if dist.is_main():
            self._save({name: row[name] for name in row if ":" in name}, state, dist.fingerprint(state))
        return f"the model so far is that of epoch {row['epoch']}"

    def _view(self, epoch: int) -> int:
        """Where nothing is frozen each epoch has random parts of its own; else the views take turns, the middle first."""
        if self.freeze == "none":
            return epoch if self.config.augment else 0
        return (epoch - 1) % plan.views(self.config)

    def _look(self, split: str) -> tuple[float, float]:
        """Loss and accuracy on a split, each image once."""
        return self.learner.look(self.keeper.watched(self.inputs.batches(split, self._picks(split))), "test" if split == "test" else "eval")

    def _picks(self, split: str) -> Iterator[list[Pick]]:
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
        patience, best = self.config.patience, self.best["row"]["epoch"] if self.best else 0
        over = bool(patience) and epoch - best >= patience
        if over:
            say(f"ended after epoch {epoch}: the validation loss was smallest in epoch {best} (--patience {patience})")
        return over

    def _report(self, row: dict[str, float]) -> None:
        epoch, epochs = row["epoch"], self.config.epochs
        left = (self.progress.seconds() - self.keeper.begun) / epoch * (epochs - epoch)
        numbers = _lines(row, metrics.TRAIN_LOSS, metrics.VALID_LOSS, metrics.VALID_ACCURACY)
        say(f"epoch {epoch}/{epochs}: {numbers} {row['images_per_second']:.0f} images/s, about {left:.0f} s left{self.progress.cost()}")

    def _finish(self) -> dict[str, float]:
        """Go back to the best weights, look at the test split for the only time, and save."""
        row = self.best["row"]
        self.tail.load_state_dict(self.best["state"])
        self.keeper.ready = None  # the weights are other ones now, and the last epoch's checkpoint is written
        # Printed again because a tuner takes the last value of the log, and the model that is saved is this one.
        say(f"best epoch {row['epoch']}: {_lines(row, metrics.VALID_LOSS, metrics.VALID_ACCURACY)}")
        test_loss, test_accuracy = dist.from_main(self._look("test"))
        final = {m.name: row[m.name] for m in (metrics.TRAIN_LOSS, metrics.VALID_LOSS, metrics.VALID_ACCURACY)}
        final |= {metrics.TEST_LOSS.name: test_loss, metrics.TEST_ACCURACY.name: test_accuracy}
        say(_lines(final, metrics.TEST_LOSS, metrics.TEST_ACCURACY))
        weights = dist.check_equal(self.network.state_dict())
        say(f"weights sha256 {weights}, equal on {dist.world()} process{'es' if dist.world() > 1 else ''}")
        dist.part()
        if dist.is_main():
            self._save(final, self.network.state_dict(), weights)
        say(f"done in {self.progress.seconds():.1f} s{self.progress.cost()}")
        return final

    def _save(self, final: dict[str, float], state: dict[str, torch.Tensor], weights: str) -> None:
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
            "versions": model.versions(),
        }
        numbers = images.preprocessing(config.image_size)
        description = {"architecture": config.arch, "classes": self.folder.breeds, "preprocessing": numbers, "trained": trained}
        model.save(config.model_dir, state, description)
        say(f"model saved to {config.model_dir}")
        model.write_metrics(config.output_dir, {"history": self.history, **trained})


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
