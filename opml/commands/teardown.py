"""``python -m opml teardown``: take down what a run left, and show what is still there."""

import argparse

from opml.aws import TARGETS, connect
from opml.resources import inventory, teardown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``opml teardown``."""
    parser.add_argument("--run_id", required=True, help="the run to take down, as its notebooks were given it")
    parser.add_argument("--target", choices=TARGETS, default="local", help="where it ran (default: local)")
    parser.add_argument("--dry_run", action="store_true", help="only show what there is")


def run(args: argparse.Namespace) -> int:
    """Delete everything of the run; exit status 1 if something is left."""
    aws = connect(args.target, args.run_id)
    found = inventory(aws)
    if found.empty:
        print(f"Nothing of run {args.run_id} is left.")
        return 0
    print(found.to_string(index=False))
    if args.dry_run:
        return 0
    left = teardown(aws)
    print(f"Deleted {len(found) - len(left)} of {len(found)}." + ("" if left.empty else f" Left:\n{left.to_string(index=False)}"))
    return 0 if left.empty else 1
