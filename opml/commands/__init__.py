"""The small sub-commands of ``python -m opml``: one module each, with ``add_arguments(parser)`` and ``run(args) -> int``."""

import argparse
from collections.abc import Callable


def at_least(least: int) -> Callable[[str], int]:
    """The type of a flag that is a whole number from ``least`` on."""

    def number(text: str) -> int:
        if (value := int(text)) < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, it is {value}")
        return value

    number.__name__ = "whole number"  # argparse names it when the text is none
    return number
