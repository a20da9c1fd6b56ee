"""The loop: one epoch of steps, and looking without learning. What the inputs are (pictures or features) it does not know."""

import math
from collections.abc import Callable, Iterable

import torch
from torch.nn import functional

from opml.core import dist
from opml.core.batches import Batch
from opml.core.config import TrainConfig
from opml.core.observer import Observer, steps

RISE = {"cosine": 0.1, "onecycle": 0.3, "constant": 0.0}  # part of the steps in which the step size rises: Adam's first estimates are poor


class Learner:
    """What changes while a job learns: the trained part of the network, its optimizer, its schedule and the number of steps.

    Parameters
    ----------
    model : the module whose parameters are trained.
    together : whether the processes share each batch and average their gradients (DDP); else each computes on all of it.
    """

    def __init__(self, model: torch.nn.Module, config: TrainConfig, steps: int, together: bool, dtype: torch.dtype, observer: Observer):
        self.model, self.together, self.dtype, self.observer, self.step = model, together, dtype, observer, 0
        self.device = next(model.parameters()).device
        self.wrapped = dist.wrap(model) if together else model
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
        factor = lambda step: step_size(step, steps, config.schedule)  # noqa: E731
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, factor)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=dtype == torch.float16)  # gradients too small for float16

    def forward(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """The loss of each sample, float32; mixed precision where that was chosen."""
        inputs, labels = batch.inputs.to(self.device, non_blocking=True), batch.labels.to(self.device, non_blocking=True)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            scores = model(inputs)
        return functional.cross_entropy(scores.float(), labels, reduction="none")

    def learn(self, batch: Batch) -> torch.Tensor:
        """One step; returns the sum of the losses of the samples that count."""
        weights = batch.weights.to(self.device, torch.float32)
        losses = self.forward(self.wrapped, batch)
        loss = (losses * weights).sum()  # the mean over the global batch: see batches.GlobalBatches
        counted = losses.detach()[weights > 0]
        self.observer.forward(counted.mean())
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)  # the observer is to see the gradients themselves; nothing happens but with float16
        self.observer.backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        self.step += 1
        return counted.double().sum()

    def epoch(
        self, batches: Iterable[Batch], report: Callable[[int], None], loss: float = 0.0, count: int = 0,
        after: Callable[[torch.Tensor, int], None] = lambda loss, count: None,
    ) -> tuple[float, int]:  # fmt: skip
        """Learn from each sample once; the mean loss over all samples of all processes, and how many they are.

        Parameters
        ----------
        report : called with the samples done.
        loss, count : of the steps that a checkpoint has done already, summed.
        after : called after each step with this process's sums so far.
        """
        self.observer.phase("train")
        self.model.train()
        for module in self.model.modules():  # a frozen layer keeps its batch-norm statistics, too
            if isinstance(module, torch.nn.BatchNorm2d) and not module.weight.requires_grad:
                module.eval()
        loss = torch.tensor(loss, dtype=torch.float64, device=self.device)
        for batch in steps(batches, self.observer, until_stopped=True):
            loss += self.learn(batch)
            count += int((batch.weights > 0).sum())
            report(count * dist.world() if self.together else count)
            after(loss, count)
        total, everything = self._total(loss.item(), count)
        return total / everything, int(everything)

    def look(self, batches: Iterable[Batch], phase: str = "eval") -> tuple[float, float]:
        """Loss and accuracy, exact, on batches of which each process has its share, or each has all."""
        self.observer.phase(phase)
        return evaluate(self.model, batches, self.device, self._total, self.observer)

    def _total(self, *numbers: float) -> list[float]:
        return dist.total(*numbers) if self.together else list(numbers)


def evaluate(
    model: torch.nn.Module,
    batches: Iterable[Batch],
    device: torch.device,
    total: Callable[..., list[float]] = dist.total,
    observer: Observer | None = None,
) -> tuple[float, float]:
    """Loss and accuracy, exact: sums over the samples of all processes, divided once."""
    model.eval()
    observer, loss, right, count = observer or Observer(), 0.0, 0, 0
    with torch.inference_mode():
        for inputs, labels, _ in steps(batches, observer):
            labels = labels.to(device)
            scores = model(inputs.to(device)).float()
            losses = functional.cross_entropy(scores, labels, reduction="none")
            observer.forward(losses.mean())
            loss += losses.double().sum().item()
            right += int((scores.argmax(dim=1) == labels).sum())
            count += len(labels)
    loss, right, count = total(loss, right, count)
    return loss / count, right / count


def step_size(step: int, steps: int, schedule: str = "cosine") -> float:
    """The factor on the learning rate.

    ``cosine``: a short rise, then half a cosine down to 0 (Loshchilov and Hutter, 2017); ``onecycle``: a rise over 30 % along half a
    cosine, from 1/25, then down to 0 (Smith and Topin, 2018); ``constant``: 1.
    """
    if schedule == "constant":
        return 1.0
    rise = max(1, round(RISE[schedule] * steps))
    if step < rise:
        part = (step + 1) / rise
        return part if schedule == "cosine" else 0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * part))
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, steps - rise))))
