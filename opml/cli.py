"""The command line: ``python -m opml COMMAND ...``. Each command is a module; what fails on purpose is one sentence on standard error."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

from opml.errors import Interrupted, OpmlError


class Command(NamedTuple):
    """A sub-command: ``module`` has ``add_arguments(parser)`` and ``run(args) -> int`` (the exit status)."""

    name: str
    help: str
    module: str


# A new sub-command is one line here and one module. The modules are imported when their command is called, or when its help is asked for.
COMMANDS = (
    Command("rehearse", "run the notebooks in order, headless, and keep a record", "opml.rehearsal"),
    Command("teardown", "take down what a run left", "opml.commands.teardown"),
    Command("predict", "ask an endpoint about pictures", "opml.commands.predict"),
    Command("doctor", "say what stands in the way: versions, disk, AWS's calendar", "opml.commands.doctor"),
    Command("policy", "print the least-privilege policies for a real account", "opml.commands.policy"),
    Command("bench", "measure training on this machine: against another script, or watched and unwatched", "opml.commands.bench"),
    Command("local", "start, find, use and stop the local AWS", "opml.localaws.command"),
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    try:
        args = _parser(argv).parse_args(argv)
        return args.run(args) or 0
    except OpmlError as error:
        print(f"opml: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("opml: interrupted", file=sys.stderr)
        return Interrupted.exit_code


def _parser(argv: Sequence[str] | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="opml", description="Take a trained image classifier to production on AWS, locally first.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    asked = next((word for word in (sys.argv[1:] if argv is None else argv) if not word.startswith("-")), None)
    for command in COMMANDS:
        sub = commands.add_parser(command.name, help=command.help, description=command.help)
        if command.name == asked:  # importing all of them to show one would be slow
            module = importlib.import_module(command.module)
            module.add_arguments(sub)
            sub.set_defaults(run=module.run)
    return parser
