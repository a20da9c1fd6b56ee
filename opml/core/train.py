"""Training from top to bottom: check, join, learn, keep the best, test once, save."""

import dataclasses
import json
import math
import os
import platform
import time
from pathlib import Path

import torch
import torchvision
from torch.nn import functional

from opml.core import data, dist, images, metrics, model
from opml.core.config import BadConfig, TrainConfig

METRICS_FILE = "metrics.json"
WARM_UP = 0.1  # part of the steps in which the step size rises from 0: Adam's first estimates are poor
REPORT_EVERY = 15.0  # seconds between two lines within an epoch: a slow job is seen to live, a quick one does not flood the log


def fit(config: TrainConfig) -> dict[str, float]:
    """Train one network, on this process or together with the others of its job.

    Returns
    -------
    The final metrics, by the names of :mod:`opml.core.metrics`; those of training and validation are the best epoch's.

    Raises
    ------
    BadConfig : a setting, the data, the weights or the output folders cannot be worked with.
    """
    folder = data.check_folder(config.data)
    network, source = model.build(config, len(folder.classes))
    model.check_space(config.model_dir, "model_dir", model.state_bytes(network))
    model.check_space(config.output_dir, "output_dir", 0)
    dist.join()
    try:
        return _Job(config, folder, network, source).run()
    finally:
        dist.leave()


def say(text: str) -> None:
    """A line of the job's log, from one process only, and at once: the reader may be waiting."""
    if dist.is_main():
        print(text, flush=True)


class _Job:
    """One training job; ``run`` is the order of things."""

    def __init__(self, config: TrainConfig, folder: data.Folder, network: torch.nn.Module, source: str | None):
        self.config, self.folder, self.device = config, folder, dist.device()
        self.source = dist.from_main(source)  # what rank 0 could get counts, its weights go to all
        # Without weights a frozen backbone would be noise for ever.
        self.frozen = self.source is not None and config.freeze != "none"
        if self.frozen:
            model.freeze_backbone(network)
        self.network = network.to(self.device, memory_format=torch.channels_last)  # convolutions are faster in this layout
        dist.copy_from_main(self.network)
        self.history: list[dict[str, float]] = []
        self.best: dict | None = None

    def run(self) -> dict[str, float]:
        config, started = self.config, time.perf_counter()
        self._announce()
        _be_reproducible(config.seed)
        train = self._loader("train", learn=True)
        valid, test = self._loader("valid"), self._loader("test")
        learner = dist.wrap(self.network)
        trained = [p for p in self.network.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step_size(step, config.epochs * len(train)))
        for epoch in range(1, config.epochs + 1):
            row = {"epoch": epoch, **self._train_one_epoch(epoch, learner, train, optimizer, schedule)}
            if not self.frozen:
                dist.average_buffers(self.network)
            row[metrics.VALID_LOSS.name], row[metrics.VALID_ACCURACY.name] = evaluate(self.network, valid, self.device)
            self._keep(row)
            self._report(row, started)
        final = self._finish(test)
        say(f"done in {time.perf_counter() - started:.1f} s")
        return final

    def _loader(self, split: str, learn: bool = False):
        return data.loader(self.folder, split, self.config, dist.rank(), dist.world(), learn)

    def _announce(self) -> None:
        config, counts = self.config, [f"{len(files)} {split}" for split, files in self.folder.files.items()]
        say(dist.describe())
        say(f"data {config.data}: {len(self.folder.classes)} classes, {', '.join(counts)} images")
        if self.source is None:
            why = {"none": "none were asked for", "auto": "ImageNet's could not be had"}[config.weights]
            also = "; --freeze backbone is not followed" if config.freeze == "backbone" else ""
            say(f"{config.arch} starts without pretrained weights ({why}), so nothing is frozen{also}")
        else:
            what = "only its last layer is trained" if self.frozen else "nothing is frozen"
            say(f"{config.arch} starts from weights: {self.source}; {what}")

    def _train_one_epoch(self, epoch: int, learner: torch.nn.Module, loader, optimizer, schedule) -> dict[str, float]:
        """Learn from each sample once; the loss is the mean over all samples of all processes."""
        learner.train(not self.frozen)  # a frozen backbone keeps its batch-norm statistics, too
        loader.batch_sampler.epoch = epoch
        loss_sum, count, begun = torch.zeros((), dtype=torch.float64, device=self.device), 0, time.perf_counter()
        spoken = begun
        for pictures, labels, weights in data.batches(loader):
            pictures, labels, weights = self._move(pictures), labels.to(self.device), weights.float().to(self.device)
            losses = functional.cross_entropy(learner(pictures), labels, reduction="none")
            optimizer.zero_grad(set_to_none=True)
            (losses * weights).sum().backward()  # the mean over the global batch: see data.GlobalBatches
            optimizer.step()
            schedule.step()
            loss_sum += losses.detach()[weights > 0].double().sum()
            count += int((weights > 0).sum())
            if time.perf_counter() - spoken > REPORT_EVERY:
                spoken = time.perf_counter()
                say(f"epoch {epoch}/{self.config.epochs}: {count * dist.world()} of {len(loader.dataset)} images")
        loss, everything = dist.total(loss_sum.item(), count)
        if not math.isfinite(loss):
            raise BadConfig(f"the loss became {loss} in epoch {epoch}: lower --learning_rate, it is {self.config.learning_rate}")
        return {metrics.TRAIN_LOSS.name: loss / everything, "images_per_second": everything / (time.perf_counter() - begun)}

    def _move(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures.to(self.device, non_blocking=True, memory_format=torch.channels_last)

    def _keep(self, row: dict[str, float]) -> None:
        """Remember the weights of the epoch with the smallest validation loss."""
        self.history.append(row)
        loss = row[metrics.VALID_LOSS.name]
        loss = loss if math.isfinite(loss) else math.inf  # nothing is smaller than nan: it would stay the best for ever
        if self.best is None or loss < self.best["loss"]:
            self.best = {
                "row": row,
                "loss": loss,
                "state": {name: value.detach().clone() for name, value in self.network.state_dict().items()},
            }

    def _report(self, row: dict[str, float], started: float) -> None:
        epoch, epochs = row["epoch"], self.config.epochs
        left = (time.perf_counter() - started) / epoch * (epochs - epoch)
        numbers = _lines(row, metrics.TRAIN_LOSS, metrics.VALID_LOSS, metrics.VALID_ACCURACY)
        say(f"epoch {epoch}/{epochs}: {numbers} {row['images_per_second']:.0f} images/s, about {left:.0f} s left")

    def _finish(self, test) -> dict[str, float]:
        """Go back to the best weights, look at the test split for the only time, and save."""
        row = self.best["row"]
        self.network.load_state_dict(self.best["state"])
        # Printed again because a tuner takes the last value of the log, and the model that is saved is this one.
        say(f"best epoch {row['epoch']}: {_lines(row, metrics.VALID_LOSS, metrics.VALID_ACCURACY)}")
        test_loss, test_accuracy = evaluate(self.network, test, self.device)
        final = {m.name: row[m.name] for m in (metrics.TRAIN_LOSS, metrics.VALID_LOSS, metrics.VALID_ACCURACY)}
        final |= {metrics.TEST_LOSS.name: test_loss, metrics.TEST_ACCURACY.name: test_accuracy}
        say(_lines(final, metrics.TEST_LOSS, metrics.TEST_ACCURACY))
        weights = dist.check_equal(self.best["state"])
        say(f"weights sha256 {weights}, equal on {dist.world()} process{'es' if dist.world() > 1 else ''}")
        if dist.is_main():
            self._save(final, weights)
        return final

    def _save(self, final: dict[str, float], weights: str) -> None:
        config, best_epoch = self.config, self.best["row"]["epoch"]
        trained = {
            "config": dataclasses.asdict(config),
            "weights_from": self.source,
            "frozen_backbone": self.frozen,
            "processes": dist.world(),
            "best_epoch": best_epoch,
            "metrics": final,
            "weights_sha256": weights,
            "versions": versions(),
        }
        description = {
            "architecture": config.arch,
            "classes": self.folder.breeds,
            "preprocessing": images.preprocessing(config.image_size),
            "trained": trained,
        }
        model.save(config.model_dir, self.best["state"], description)
        say(f"model saved to {config.model_dir}")
        write_metrics(config.output_dir, {"history": self.history, **trained})


def evaluate(network: torch.nn.Module, loader, device: torch.device) -> tuple[float, float]:
    """Loss and accuracy, exact: sums over the samples of all processes, divided once."""
    network.eval()
    loss, right, count = 0.0, 0, 0
    with torch.inference_mode():
        for pictures, labels, _ in data.batches(loader):
            labels = labels.to(device)
            scores = network(pictures.to(device, memory_format=torch.channels_last))
            loss += functional.cross_entropy(scores, labels, reduction="none").double().sum().item()
            right += int((scores.argmax(dim=1) == labels).sum())
            count += len(labels)
    loss, right, count = dist.total(loss, right, count)
    return loss / count, right / count


def step_size(step: int, steps: int) -> float:
    """The factor on the learning rate: a short rise, then half a cosine down to 0 at the end (Loshchilov and Hutter, 2017)."""
    rise = max(1, round(WARM_UP * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, steps - rise))))


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
