"""Files that are there as a whole or not at all (standard library only)."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """To a temporary name, onto the disk, then to its own name; a Python file object, so that a full disk is an OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """The same with a text, in UTF-8."""
    write_whole(path, lambda file: file.write(text.encode()))
