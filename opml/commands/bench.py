"""``python -m opml bench``: what training, watching it, and the local AWS cost on this machine, as JSON lines."""

import argparse

from opml.commands import bench_local, bench_recorder, bench_train

BENCHES = {
    "train": (bench_train, "training against another script"),
    "recorder": (bench_recorder, "training watched and unwatched"),
    "local": (bench_local, "the local AWS under load"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``opml bench``: those of what is measured."""
    which = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    for name, (bench, help) in BENCHES.items():
        sub = which.add_parser(name, help=help, description=bench.__doc__.splitlines()[0])
        bench.add_arguments(sub)
        sub.set_defaults(measure=bench.run)


def run(args: argparse.Namespace) -> int:
    """Measure; each stage prints its line when it is done."""
    return args.measure(args)
