"""``python -m opml bench recorder``: what watching costs, in paired runs of the same steps with and without it."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence

from opml.commands import at_least

CODE = "from opml.core.overhead import main; import sys; sys.exit(main(sys.argv[1:]))"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``bench recorder``."""
    parser.add_argument("--pairs", type=at_least(1), default=30, help="pairs of stretches, each of --steps steps (30)")
    parser.add_argument(
        "--steps", type=at_least(1), default=20, help="steps of one stretch: one look of the recorder at the gradients (20)"
    )
    parser.add_argument("--image_size", type=at_least(1), default=64, help="side of the square images, pixels (64)")
    parser.add_argument("--batch_size", type=at_least(1), default=16, help="samples a step (16)")
    parser.add_argument("--watchers", nargs="+", default=["recorder", "hook"], choices=["recorder", "hook", "nothing"], help="who watches")


def run(args: argparse.Namespace) -> int:
    """Print one JSON line a watcher: the ratio of times with and without it, its median and quartiles over all pairs."""
    for watcher in args.watchers:
        found = measure(watcher, args.pairs, args.steps, args.image_size, args.batch_size)
        figures = {**_spread("", found["ratios"]), **_spread("cpu_", found["cpu_ratios"]), "pairs": args.pairs}
        setting = {"arch": "resnet18", "image_size": args.image_size, "batch_size": args.batch_size, "steps": args.steps}
        print(
            json.dumps({"bench": watcher, **figures, "ms_per_step_without": round(found["ms_per_step_without"], 2), **setting}), flush=True
        )
    return 0


def _spread(what: str, ratios: list[float]) -> dict[str, float | list[float]]:
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {f"median_{what}ratio": round(middle, 4), f"{what}quartiles": [round(low, 4), round(high, 4)]}


def measure(watcher: str, pairs: int, steps: int, image_size: int, batch_size: int) -> dict:
    """Ratios of paired stretches by the clock and by processor time, and median ms a step without.

    In a process of its own, because smdebug stays for a process's life.
    """
    arguments: Sequence[str] = [watcher, *(str(number) for number in (pairs, steps, image_size, batch_size))]
    done = subprocess.run([sys.executable, "-c", CODE, *arguments], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])
