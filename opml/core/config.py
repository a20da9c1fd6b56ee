"""TrainConfig: the one source of flags, hyper-parameters and defaults (standard library only)."""

import argparse
import dataclasses
import math
import os
import sys
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import NoReturn

ARCHITECTURES = ("resnet18", "resnet34", "resnet50")
FREEZE = ("auto", "backbone", "layer3", "layer2", "layer1", "none")
MAX_IMAGE_SIZE = 896  # pixels; large photographs are decoded at reduced size (core.images), which is enough for this
MAX_WORKERS = 128


class BadConfig(ValueError):
    """A setting, a file or a folder that training cannot work with; the message says what to change."""


def _setting(default, help, *, env=None, choices=None):
    return field(default=default, metadata={"help": help, "env": env, "choices": choices})


@dataclass(frozen=True)
class TrainConfig:
    """All settings of one training job; each field is a flag of ``hpo.py`` and a constant of ``ec2train.py``."""

    # What is trained on, and where the results go. In a SageMaker container the SM_* variables say so.
    data: str = _setting("data", "folder with train/ valid/ test/, one sub-folder NNN.Breed_name a class", env="SM_CHANNEL_TRAINING")
    model_dir: str = _setting("model", "the trained model is written here", env="SM_MODEL_DIR")
    output_dir: str = _setting("output", "metrics and logs are written here", env="SM_OUTPUT_DATA_DIR")
    # The network.
    arch: str = _setting("resnet18", "architecture", choices=ARCHITECTURES)
    weights: str = _setting("auto", "auto (ImageNet weights where they can be had, else none), imagenet, none, or a weights file")
    freeze: str = _setting(
        "auto", "what is kept: auto (the backbone if it has weights), backbone, layer3 (up to it) ..., or none", choices=FREEZE
    )
    init: str = _setting(
        "default", "how new weights begin: default, or uneven (bad on purpose: a rule has to notice)", choices=("default", "uneven")
    )
    image_size: int = _setting(224, "side of the square network input, pixels")
    # How it is trained. batch_size is the global batch: N processes share it, each takes every N-th sample.
    epochs: int = _setting(5, "passes over train/")
    batch_size: int = _setting(32, "samples a step, summed over all processes")
    learning_rate: float = _setting(1e-3, "step size of Adam")
    weight_decay: float = _setting(0.0, "decoupled weight decay (AdamW)")
    schedule: str = _setting(
        "cosine", "how the step size changes: cosine, onecycle or constant", choices=("cosine", "onecycle", "constant")
    )
    patience: int = _setting(0, "end after so many epochs without a smaller validation loss; 0 never")
    augment: bool = _setting(True, "random crops and flips of the training images (True or False)")
    seed: int = _setting(0, "seed of weights, order and augmentation")
    # What a frozen part of the network computes, it computes once: an epoch uses one view of each image.
    features: str = _setting("once", "the frozen part's output is computed once, or in each_epoch", choices=("once", "each_epoch"))
    views: int = _setting(1, "views of each training image where a part is frozen: 1 is the middle, all more are random parts")
    precision: str = _setting("auto", "auto (measured), float32 or bfloat16", choices=("auto", "float32", "bfloat16"))
    # Who watches.
    record: bool = _setting(True, "losses, gradients and times are recorded, and judged by rules (True or False)")
    record_interval: int = _setting(20, "steps between two looks at gradients and activations")
    on_finding: str = _setting("warn", "what follows when a rule finds an issue: warn, or stop training", choices=("warn", "stop"))
    # The machine and the job.
    workers: int = _setting(0, "threads that decode, and compute what is computed once; 0: one for each core")
    checkpoint_dir: str = _setting("auto", "checkpoints are written to and resumed from this folder; auto: SageMaker's; none")
    checkpoint_every: int = _setting(0, "steps between two checkpoints; 0: at the end of each epoch (and when the job is stopped)")
    skip_unreadable: bool = _setting(False, "leave out images that cannot be decoded, and list them (True or False)")
    join: bool = _setting(True, "the processes of the job train one model; False: each trains its own copy (True or False)")
    require_distributed: bool = _setting(False, "fail where nothing joins the instances of the job (True or False)")
    price_per_hour: float = _setting(0.0, "of one instance, USD: the log then says what the job has cost; 0 if unknown")

    def __post_init__(self):
        for f in dataclasses.fields(self):
            if f.type is int and not isinstance(getattr(self, f.name), Integral):
                raise BadConfig(f"{f.name} must be a whole number, not {getattr(self, f.name)!r}")
        for name in ("image_size", "epochs", "batch_size", "views", "record_interval"):
            if getattr(self, name) < 1:
                raise BadConfig(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.image_size > MAX_IMAGE_SIZE:
            raise BadConfig(f"image_size must be at most {MAX_IMAGE_SIZE} pixels, not {self.image_size}")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise BadConfig(f"learning_rate must be a number above 0, not {self.learning_rate}")
        for name in ("weight_decay", "workers", "seed", "patience", "price_per_hour", "checkpoint_every"):
            if not 0 <= getattr(self, name) < math.inf:  # also refuses nan
                raise BadConfig(f"{name} must be 0 or above, not {getattr(self, name)}")
        for name, most in (("seed", 2**63 - 1), ("workers", MAX_WORKERS)):
            if getattr(self, name) > most:
                raise BadConfig(f"{name} must be at most {most}, not {getattr(self, name)}")
        for f in dataclasses.fields(self):
            choices = f.metadata["choices"]
            if choices and getattr(self, f.name) not in choices:
                raise BadConfig(f"unknown {f.name} {getattr(self, f.name)!r}: choose one of {', '.join(choices)}")

    @classmethod
    def from_args(cls, argv: list[str] | None = None, description: str = "", defaults: dict | None = None) -> "TrainConfig":
        """Parse command-line flags; what is wrong ends the program with one sentence and exit code 2.

        A flag counts most, then ``defaults``, then the SM_* variable of the field, then the field's own default.
        """
        parser = _Parser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False)
        for f in dataclasses.fields(cls):
            default = (defaults or {}).get(f.name, os.environ.get(f.metadata["env"] or "", f.default))
            kind = parse_bool if f.type is bool else f.type
            parser.add_argument(f"--{f.name}", type=kind, default=default, metavar=f.name.upper(), help=f.metadata["help"])
        unknown = set(defaults or {}) - {f.name for f in dataclasses.fields(cls)}
        if unknown:
            parser.error(f"unknown setting {min(unknown)}: there are {', '.join(f.name for f in dataclasses.fields(cls))}")
        try:
            return cls(**vars(parser.parse_args(argv)))
        except BadConfig as error:
            parser.error(str(error))

    def hyperparameters(self) -> dict:
        """The settings as SageMaker hyper-parameters: all but the folders, which the container decides."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if not f.metadata["env"]}

    def replace(self, **changes) -> "TrainConfig":
        """A copy with some settings changed."""
        return dataclasses.replace(self, **changes)


def parse_bool(text: str) -> bool:
    """SageMaker passes booleans as the words True and False; ``bool('False')`` would be True."""
    try:
        return {"true": True, "1": True, "false": False, "0": False}[text.strip().lower()]
    except KeyError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither True nor False") from None


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the usage text before it."""

    def error(self, message: str) -> NoReturn:
        stop(f"{message} (--help lists all flags)" if "argument" in message else message, prog=self.prog)


def stop(sentence: str, prog: str | None = None, exit_code: int = 2) -> NoReturn:
    """End the program because of what its user gave it (exit code 2): one sentence, where SageMaker looks for it too."""
    report_failure(sentence)
    print(f"{prog or Path(sys.argv[0]).name}: error: {sentence}", file=sys.stderr)
    sys.exit(exit_code)


def report_failure(text: str) -> None:
    """Write the job's failure file, if this is a SageMaker job; its first 1024 characters become the job's FailureReason."""
    folder = os.environ.get("SM_OUTPUT_DIR")
    if folder and Path(folder).is_dir():
        try:
            Path(folder, "failure").write_text(text[:1024])
        except OSError as error:  # the reason itself must still reach the log
            print(f"{folder}/failure cannot be written: {error}", file=sys.stderr)
