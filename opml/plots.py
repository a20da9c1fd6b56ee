"""One function for each figure: it draws, labels its axes with units, and returns the Axes. Colours are safe for the colour-blind."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from PIL import Image

from opml import scaling
from opml.core.records import Record
from opml.errors import BadInput

WIDTH = 7.0  # inches; every figure has it
DPI = 90
# Okabe and Ito (2008), the first four that stand out on white.
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
COLOURS = (BLUE, ORANGE, GREEN, RED)


def _axes(height: float = 3.2) -> Axes:
    axes = plt.figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained").add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def sample_grid(folder: str | Path, split: str = "train", columns: int = 5, rows: int = 2) -> Axes:
    """One image of each of the first classes of a data folder, as one picture with the breed above each.

    Raises
    ------
    BadInput
        The folder has no such split, or no image in it.
    """
    breeds = sorted(path for path in Path(folder, split).glob("*") if path.is_dir())[: columns * rows]
    first = [next(iter(sorted(p for p in breed.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png"))), None) for breed in breeds]
    shown = [(breed, image) for breed, image in zip(breeds, first, strict=True) if image]
    if not shown:
        raise BadInput(f"{Path(folder).name}/{split} has no images: name a folder in the dogImages layout")
    lines = -(-len(shown) // columns)
    side, gap = 96, 22
    sheet = Image.new("RGB", (columns * side, lines * (side + gap)), "white")
    axes = _axes(WIDTH * sheet.height / sheet.width)
    for n, (breed, image) in enumerate(shown):
        x, y = n % columns * side, n // columns * (side + gap) + gap
        with Image.open(image) as picture:
            sheet.paste(picture.convert("RGB").resize((side - 4, side - 4)), (x + 2, y))
        name = breed.name.partition(".")[2].replace("_", " ")
        axes.text(x + 3, y - 5, name if len(name) <= 22 else f"{name[:21]}…", fontsize=7)
    few = sheet.quantize(24, dither=Image.Dither.NONE).convert("RGB")  # the noise of photographs would make a large file
    axes.imshow(np.asarray(few), interpolation="nearest")
    axes.set_axis_off()
    return axes


def learning_curves(history: pd.DataFrame, kind: str = "loss") -> Axes:
    """Training and validation over the epochs, each line named at its end; losses on a log scale, because the first ones dwarf the rest.

    Parameters
    ----------
    history : DataFrame
        Columns metric, value, epoch (``opml.estimators.metric_history`` or ``CompletedRun.history``).
    kind : str
        ``loss`` (nats) or ``accuracy`` (share of the images).

    Raises
    ------
    BadInput
        The history has no metric of that kind.
    """
    chosen = history[history["metric"].str.endswith(f":{kind}") & ~history["metric"].str.startswith("test:")]
    if chosen.empty:
        raise BadInput(f"the history has no {kind}: it has {', '.join(sorted(set(history['metric']))) or 'nothing'}")
    axes = _axes()
    curves = sorted(chosen.groupby("metric"), key=lambda curve: curve[1]["value"].iloc[-1])
    for colour, side, (name, values) in zip(COLOURS, ("top", "bottom"), curves, strict=False):
        axes.plot(values["epoch"], values["value"], color=colour, marker="o", markersize=3)
        axes.annotate(f"  {name}", (values["epoch"].iloc[-1], values["value"].iloc[-1]), color=colour, va=side)
    axes.set(xlabel="epoch", ylabel={"loss": "cross-entropy (nats)", "accuracy": "accuracy (share)"}.get(kind, kind))
    axes.set(**{"yscale": "log"} if kind == "loss" else {"ylim": (0, 1.05)})
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.margins(y=0.1)
    axes.set_xlim(chosen["epoch"].min() - 0.3, chosen["epoch"].max() * 1.3)  # room for the names
    return axes


def losses_by_phase(losses: pd.DataFrame) -> Axes:
    """The loss of each recorded batch, in training and in evaluation, on one axis: the share of the job that was done.

    The phases have different numbers of steps, so each is stretched to the whole job. Thin lines are single batches, thick ones the
    running mean over a tenth of the job.

    Parameters
    ----------
    losses : DataFrame
        Columns phase, step, loss (``opml.rules.losses``).

    Raises
    ------
    BadInput
        No losses were recorded.
    """
    if losses.empty:
        raise BadInput("no losses were recorded: was the job trained with a hook or with record=True?")
    axes = _axes()
    for colour, (phase, values) in zip((ORANGE, BLUE), losses.groupby("phase"), strict=False):
        done, mean = (
            (values["step"] + 1) / (values["step"].max() + 1),
            values["loss"].rolling(max(1, len(values) // 10), min_periods=1).mean(),
        )
        axes.plot(done, values["loss"], color=colour, alpha=0.3, linewidth=0.8)
        axes.plot(done, mean, color=colour, linewidth=2)
        axes.annotate(f"  {phase}", (1.0, mean.iloc[-1]), color=colour, va="bottom" if colour == ORANGE else "top")
    axes.set(xlabel="share of the job's steps", ylabel="cross-entropy of one batch (nats)", yscale="log", xlim=(0, 1.12))
    return axes


def step_times(record: Record) -> Axes:
    """Where the time of a training step goes: the median of each part, in ms, with its share of the whole.

    Parameters
    ----------
    record : what our recorder wrote (``opml.rules.job_record``).

    Raises
    ------
    BadInput
        The record has no times of training steps.
    """
    times = pd.DataFrame([(p.phase, 1000 * p.seconds) for p in record.phases if p.mode == "TRAIN"], columns=["part", "ms"])
    medians = times.groupby("part")["ms"].median().reindex(["optimizer", "backward", "forward", "loading"]).dropna()
    if medians.empty:
        raise BadInput("the record has no times of training steps: was the job trained with record=True?")
    axes = _axes(2.2)
    bars = axes.barh(medians.index, medians, color=BLUE)
    axes.bar_label(bars, [f" {value:.1f} ms, {value / medians.sum():.0%}" for value in medians])
    axes.set(xlabel="median time of a training step's part (ms)", xlim=(0, 1.35 * medians.max()))
    return axes


def breed_bars(predictions: list[dict]) -> Axes:
    """The probabilities of an answer, largest on top, each with its number.

    Parameters
    ----------
    predictions : list of dict
        ``breed`` and ``probability`` (0 to 1); what the endpoint and the function return for one image.
    """
    ordered = sorted(predictions, key=lambda p: p["probability"])
    axes = _axes(0.35 * len(ordered) + 0.7)
    bars = axes.barh([p["breed"].replace("_", " ") for p in ordered], [p["probability"] for p in ordered], color=BLUE)
    axes.bar_label(bars, fmt=" {:.2f}")
    axes.set(xlabel="probability", xlim=(0, 1.1))
    return axes


def target_tracking(target: float, min_capacity: int = 1, max_capacity: int = 3) -> Axes:
    """How many instances target tracking asks for, at each load; and the load that even the maximum carries only above its target.

    Parameters
    ----------
    target : float
        Invocations per instance per minute.
    """
    top = target * (max_capacity + 1)
    loads = np.linspace(0, top, 400)
    axes = _axes()
    axes.plot(loads, [scaling.desired_instances(load, target, min_capacity, max_capacity) for load in loads], color=BLUE)
    axes.axvspan(target * max_capacity, top, color=ORANGE, alpha=0.25)
    axes.text(target * (max_capacity + 0.5), 0.3, "over target\neven at the maximum", ha="center", fontsize=8)
    axes.set(xlabel="load (invocations per minute, all instances)", ylabel="instances", ylim=(0, max_capacity + 0.5), xlim=(0, top))
    axes.yaxis.get_major_locator().set_params(integer=True)
    return axes


def throttling(rps: float, seconds: float, reserved: int) -> Axes:
    """The share of refused calls at each reserved concurrency (Erlang B), with the chosen one marked.

    Parameters
    ----------
    rps, seconds : float
        Calls a second, and the mean duration of one.
    """
    load = scaling.concurrency(rps, seconds)
    places = np.arange(0, max(int(3 * load), reserved) + 3)
    axes = _axes()
    axes.plot(places, [scaling.throttled_share(load, int(n)) for n in places], color=BLUE, marker="o", markersize=3)
    share = scaling.throttled_share(load, reserved)
    axes.plot([reserved], [share], color=RED, marker="o")
    axes.annotate(f"  {reserved} reserved: {share:.1%} refused", (reserved, share), color=RED, va="bottom")
    axes.axvline(load, color=ORANGE, linestyle=":")
    axes.text(load, 1.0, f" mean in progress: {load:.1f}", color="black", va="top", fontsize=8)
    axes.set(xlabel="reserved concurrency (calls at one time)", ylabel="share of calls answered 429", ylim=(0, 1.05))
    return axes
