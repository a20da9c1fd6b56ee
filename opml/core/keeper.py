"""A job's state, taken between two steps and put back: after a restart it goes on as if nothing had happened, to the last bit (CPU).

The order of an epoch and the parts cut out of its images are functions of seed, epoch and sample (``core.batches``): of them a checkpoint
holds the position only. Features are computed again: they are the same to the last bit, in the precision that the checkpoint names.
"""

import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy
import torch

from opml.core import checkpoints, dist
from opml.core.batches import Batch
from opml.core.config import BadConfig, TrainConfig
from opml.core.data import Folder
from opml.core.loop import Learner
from opml.core.progress import Progress, say
from opml.core.stopping import Stopped, Stopping


class Position(NamedTuple):
    """Between two steps: ``step`` steps of ``epoch`` (from 1) are done, with this process's sum of losses over ``count`` samples."""

    epoch: int = 1
    step: int = 0
    loss: float | torch.Tensor = 0.0
    count: int = 0

    def __str__(self) -> str:
        return f"epoch {self.epoch - 1}" + (f", step {self.step}" if self.step else "")


class Keeper:
    """Finds the checkpoint that a job resumes from, takes new ones on all processes, and lets rank 0 write them.

    Parameters
    ----------
    frozen : what ``--freeze`` came to.
    network : as it is before training.

    Raises
    ------
    BadConfig : there is a checkpoint that is not of this job, or the folder cannot be used.
    """

    def __init__(self, config: TrainConfig, frozen: str, network: torch.nn.Module, source: str | None, data: Folder):
        where = dist.from_main(str(checkpoints.folder(config) or ""))  # all processes do what rank 0's instance allows
        self.on, self.every, self.kept, self.path, self.shelf = bool(where), config.checkpoint_every, None, "", None
        if not self.on:
            return
        self.settings = checkpoints.settings(config, frozen)
        start = (dist.fingerprint(network.state_dict()), f"from {source or 'the seed'}")
        self.about = {"data": (data.fingerprint(), data.counts()), "starting weights": start}
        if dist.is_main():
            self.shelf = checkpoints.Shelf(Path(where))
        self.kept, self.path = dist.from_main(self._find())

    def _find(self) -> tuple[dict | None, str]:
        found = self.shelf.newest() if self.shelf else None
        if found is None:
            return None, ""
        checkpoints.check_fits(*found, self.settings, self.about, found[0]["position"][0] - 1)
        return found

    def begin(
        self, learner: Learner, stopping: Stopping, precision: str, progress: Progress, save_model: Callable[[], str]
    ) -> Position:  # fmt: skip
        """Know what is to be kept, and put back what was.

        Parameters
        ----------
        precision : of the frozen part.
        save_model : saves the best model so far and says so; called if the job is stopped.
        """
        self.learner, self.stopping, self.precision, self.progress, self.save_model = learner, stopping, precision, progress, save_model
        self.ready, self.begun = None, progress.seconds()
        if self.shelf:
            self.shelf.check_space(sum(value.numel() * value.element_size() for value in learner.model.state_dict().values()))
        return self._put_back() if self.kept else Position()

    def _put_back(self) -> Position:
        state, learner = self.kept, self.learner
        world = dist.world() if self.learner.together else 1
        if len(state["ranks"]) != world:
            theirs = len(state["ranks"])
            raise BadConfig(
                f"the checkpoint {self.path} is of a job in which {theirs} processes share each step, and here they are {world}: "
                f"start {theirs}, or name another --checkpoint_dir (none: no checkpoints)"
            )
        mine = state["ranks"][dist.rank() if self.learner.together else 0]
        learner.model.load_state_dict(state["model"] | mine["buffers"])
        learner.optimizer.load_state_dict(state["optimizer"])
        learner.schedule.load_state_dict(state["schedule"])
        learner.scaler.load_state_dict(state["scaler"])
        learner.step = state["steps"]
        self.progress.started -= state["seconds"]  # of the job as a whole, and so is its cost
        self.begun = self.progress.seconds() - state["learning"]
        _set_random_states(mine["random"])
        at = Position(*state["position"], mine["loss"], mine["count"])
        say(f"resuming after {at} from {self.path}")
        return at

    def _take(self, at: Position, history: list, best: dict | None) -> dict:
        """The state of the job; all processes that share the steps take part. Tensors are the job's own: write before they change."""
        learner = self.learner
        buffers = {name: value.cpu().clone() for name, value in learner.model.named_buffers()}  # batch norm's differ between processes
        mine = {"loss": float(at.loss), "count": at.count, "buffers": buffers, "random": _random_states()}
        seconds = {"seconds": self.progress.seconds(), "learning": self.progress.seconds() - self.begun}
        return seconds | {
            "settings": self.settings, "about": self.about, "precision": self.precision, "position": (at.epoch, at.step),
            "model": dict(learner.model.state_dict()), "optimizer": learner.optimizer.state_dict(), "steps": learner.step,
            "schedule": learner.schedule.state_dict(), "scaler": learner.scaler.state_dict(), "history": history, "best": best,
            "ranks": dist.everybodys(mine) if learner.together else [mine],
        }  # fmt: skip

    def after_step(self, at: Position, last: bool, history: list, best: dict | None) -> None:
        """Between two steps: take the state and write it if that is due, end the job if it is asked to.

        Parameters
        ----------
        last : of the epoch; validation comes next, during which the state is that of before it.

        Raises
        ------
        Stopped : SIGTERM came; all processes raise it after the same step.
        """
        stop = self.stopping.after_step(self.learner.step)
        due = self.every > 0 and self.learner.step % self.every == 0
        self.ready = self._take(at, history, best) if self.on and (stop or due or last) else None
        if stop:
            self._stop(at)
        if due:
            self._write()

    def after_epoch(self, at: Position, last: bool, history: list, best: dict | None) -> None:
        """The same after validation; a job whose ``last`` epoch it was goes on to its end."""
        stop = not last and self.stopping.after_epoch()
        self.ready = self._take(at, history, best) if self.on else None
        if stop:
            self._stop(at)
        self._write()

    def watched(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Validation and test go on though SIGTERM came, if there is time; what must not be lost is saved before."""
        saved = False
        for batch in batches:
            if self.stopping.asked and not saved:
                saved = True
                self._write()
                say(f"SIGTERM came, validation or test goes on; {self.save_model()}")
            yield batch

    def _write(self) -> str:
        """Rank 0 writes the state that was taken; what happened, in words."""
        said = self.shelf.write(self.ready) if self.shelf and self.ready else ""
        if said.startswith("WARNING"):
            say(said)
        return said

    def _stop(self, at: Position) -> NoReturn:
        """End the job between two steps, as all its processes do now."""
        dist.part(meet=False)
        said = self._write() or "no checkpoint, because --checkpoint_dir names no folder"
        say(f"stopped by SIGTERM after {at}; {said}; {self.save_model()}")
        if self.stopping.shared:
            dist.part()  # nobody goes before the checkpoint is written: torchrun would end the others
        raise Stopped


def _random_states() -> dict:
    """Training draws nothing from these today; an observer, or a layer that drops out, may."""
    name, words, *rest = numpy.random.get_state()
    states = {"python": random.getstate(), "numpy": (name, words.tolist(), *rest), "torch": torch.get_rng_state()}
    return states | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def _set_random_states(states: dict) -> None:
    random.setstate(states["python"])
    numpy.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
