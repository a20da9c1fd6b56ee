"""Checkpoints on disk: two files in turn, so that the one before is whole while the next is written; found, checked, compared."""

import errno
import json
import os
import pickle
import zipfile
from pathlib import Path

import torch

from opml.core import files, model
from opml.core.config import BadConfig, TrainConfig
from opml.core.progress import say

# Two fixed names: SageMaker sends each new file to S3, deletes none there, and brings all of them back at a restart.
NAMES = ("checkpoint-a.pt", "checkpoint-b.pt")
FORMAT = 1
# What the readers of a file that is none, or is damaged, raise; what the disk or the memory refuses is not among it.
NO_CHECKPOINT = (zipfile.BadZipFile, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError)
COPIES = 4  # a checkpoint holds the weights, Adam's two averages of each, and the best weights
# What may differ between a job and its checkpoint: where things are, and what does not change the result. Weights, data and what
# ``--freeze auto`` came to are compared by themselves.
MAY_DIFFER = frozenset(
    ("data", "model_dir", "output_dir", "checkpoint_dir", "checkpoint_every", "weights", "freeze", "workers", "skip_unreadable", "join")
    + ("require_distributed", "price_per_hour", "record", "record_interval")
)


def folder(config: TrainConfig) -> Path | None:
    """Where this job keeps its checkpoints; None for nowhere.

    ``auto`` asks SageMaker, which has no ``SM_*`` variable for it: a job with a ``CheckpointConfig`` has the file
    ``checkpointconfig.json`` among its configuration, and a folder ``checkpoints`` beside its other folders.
    """
    if config.checkpoint_dir == "none":
        return None
    if config.checkpoint_dir != "auto":
        return Path(config.checkpoint_dir)
    if "SM_INPUT_DIR" not in os.environ:
        return None
    inputs = Path(os.environ["SM_INPUT_DIR"])
    try:
        return Path(json.loads((inputs / "config" / "checkpointconfig.json").read_text())["LocalPath"])
    except (OSError, ValueError, KeyError, TypeError):
        beside = inputs.parent / "checkpoints"
        return beside if beside.is_dir() else None


class Shelf:
    """The checkpoints of one job, in one folder. Only rank 0 has one: what it reads goes to all."""

    def __init__(self, folder: Path):
        self.folder, self.number, self.slot = folder, 0, 0
        model.check_space(folder, "checkpoint_dir", 0)
        try:
            for left in folder.glob(".checkpoint-*"):  # by a process that was killed while it wrote
                left.unlink()
        except OSError as error:
            raise _unusable(folder, error) from error

    def newest(self) -> tuple[dict, str] | None:
        """The newest checkpoint that is whole, and its path; the log names any that is not.

        Raises
        ------
        BadConfig : the folder cannot be read.
        """
        found, damaged = [], []
        for slot, path in enumerate(self.folder / name for name in NAMES):
            try:
                if path.exists():
                    found.append((*_read(path), slot))
            except Damaged as error:
                damaged.append(f"{path} is damaged ({error})")
            except OSError as error:
                raise _unusable(path, error) from error
        best = max(found, key=lambda one: one[0]["number"], default=None)
        for sentence in damaged:
            say(f"WARNING: {sentence}: {f'{best[1]} is used' if best else 'training starts from the beginning'}")
        if best is None:
            return None
        self.number, self.slot = best[0]["number"], 1 - best[2]
        return best[0], best[1]

    def check_space(self, weights: int) -> None:
        """Find out before training whether two checkpoints of a network of so many bytes fit.

        Raises
        ------
        BadConfig : they do not.
        """
        there = sum(path.stat().st_size for path in (self.folder / name for name in NAMES) if path.exists())
        model.check_space(self.folder, "checkpoint_dir", max(0, (2 * COPIES) * weights - there))

    def write(self, state: dict) -> str:
        """Write the next checkpoint; the one before stays. A disk that is full costs the checkpoint, not the job.

        Returns
        -------
        What happened, in words: its path and size, or why there is none.
        """
        path = self.folder / NAMES[self.slot]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            files.write_whole(path, lambda file: torch.save({**state, "format": FORMAT, "number": self.number + 1}, file))
        except OSError as error:
            why = "no space left" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or error
            return f"WARNING: no checkpoint could be written to {self.folder} ({why}); the one before is kept"
        self.number, self.slot = self.number + 1, 1 - self.slot
        return f"checkpoint {path}, {path.stat().st_size / 1e6:.2f} MB"


class Damaged(Exception):
    """A file is no checkpoint, or not a whole one."""


def _read(path: Path) -> tuple[dict, str]:
    """The content of one checkpoint. torch does not compare the check sums that it writes, so a changed bit would be loaded."""
    try:
        with zipfile.ZipFile(path) as archive:
            if wrong := archive.testzip():
                raise Damaged(f"the check sum of {wrong} is wrong")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except NO_CHECKPOINT as error:
        raise Damaged(str(error).splitlines()[0] if str(error) else type(error).__name__) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise Damaged(f"it is no checkpoint of format {FORMAT}")
    return state, str(path)


def _unusable(path: Path, error: OSError) -> BadConfig:
    return BadConfig(f"the checkpoints in {path} cannot be used ({error.strerror or error}): name another --checkpoint_dir, or none")


def settings(config: TrainConfig, frozen: str) -> dict:
    """The settings that decide the result, as a checkpoint carries them."""
    values = {name: value for name, value in vars(config).items() if name not in MAY_DIFFER}
    return {"arch": values.pop("arch"), "freeze": frozen, **values}


def check_fits(state: dict, path: str, here: dict, about: dict, epochs_done: int) -> None:
    """Make sure that a checkpoint is one of this job.

    Parameters
    ----------
    here : what :func:`settings` says about this job.
    about : ``data`` and ``start``, each a fingerprint and words for the reader: what it was trained on, and from which weights.

    Raises
    ------
    BadConfig : it is of another; one sentence that names what differs, and both values.
    """
    for name, mine in here.items():
        theirs = state["settings"].get(name, getattr(TrainConfig(), name))
        if theirs != mine and not _goes_on_longer(name, theirs, mine, here["schedule"], epochs_done):
            why = "; the step sizes depend on it unless --schedule is constant" if name == "epochs" else ""
            raise _other(f"{path} is of a job with --{name} {theirs}, and this one has --{name} {mine}{why}", f"use --{name} {theirs}")
    for what, (mine, words) in about.items():
        theirs, their_words = state["about"][what]
        if theirs != mine:
            raise _other(f"{path} is of a job with other {what} ({their_words}; here {words})", f"give this job the same {what}")


def _goes_on_longer(name: str, theirs: object, mine: object, schedule: str, epochs_done: int) -> bool:
    """A constant step size does not know how long training takes."""
    return name == "epochs" and schedule == "constant" and mine >= epochs_done


def _other(what: str, remedy: str) -> BadConfig:
    return BadConfig(f"the checkpoint {what}: {remedy}, or name another --checkpoint_dir (none: no checkpoints)")
