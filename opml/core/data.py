"""A dogImages folder, checked before a second of training is spent on it."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from opml.core import images
from opml.core.batches import unreadable
from opml.core.config import BadConfig
from opml.core.sample import BREEDS, SPLITS, make_sample

__all__ = ["BREEDS", "SPLITS", "Folder", "check_folder", "make_sample"]

LAYOUT = "it needs train/ valid/ test/, each with one folder a class, NNN.Breed_name"


@dataclass(frozen=True)
class Folder:
    """A checked data folder: the class folders in order, and for each split its files with their class numbers."""

    classes: tuple[str, ...]
    files: dict[str, list[tuple[Path, int]]]
    skipped: tuple[str, ...] = ()  # what could not be decoded and is left out, one sentence each

    @property
    def breeds(self) -> list[str]:
        """The names without their numbers: ``001.Affenpinscher`` is Affenpinscher."""
        return [name.split(".", 1)[1] if name.split(".", 1)[0].isdigit() and "." in name else name for name in self.classes]

    def fingerprint(self) -> str:
        """SHA-256 over names, class numbers and sizes of all files: what the processes of one job compare."""
        lines = [f"{split} {label} {path.name} {path.stat().st_size}" for split in SPLITS for path, label in self.files[split]]
        return hashlib.sha256("\n".join([*self.classes, *lines]).encode()).hexdigest()

    def counts(self) -> str:
        """How many images there are, in words."""
        return ", ".join(f"{len(files)} {split}" for split, files in self.files.items()) + " images"


def check_folder(folder: str | Path, skip_unreadable: bool = False) -> Folder:
    """Look at every file of a data folder before a second of training is spent on it.

    With ``skip_unreadable`` every file is decoded, and those that cannot be are left out and listed.

    Raises
    ------
    BadConfig : missing, empty or incomplete, or it holds a file that is no whole image; one sentence that names it.
    """
    root = Path(folder)
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise BadConfig(f"the data folder {root} {what}: name another with --data ({LAYOUT})")
    if not any(root.iterdir()):
        raise BadConfig(f"the data folder {root} is empty: {LAYOUT}")
    for split in SPLITS:
        if not (root / split).is_dir():
            raise BadConfig(f"the data folder {root} has no {split}/: {LAYOUT}")
    classes = _classes(root)
    files = {split: [(path, i) for i, name in enumerate(classes) for path in _files(root / split / name)] for split in SPLITS}
    if skip_unreadable:
        return _without_unreadable(Folder(classes, files), root)
    for path, _ in (pair for pairs in files.values() for pair in pairs):
        _check_file(path)
    return Folder(classes, files)


def _classes(root: Path) -> tuple[str, ...]:
    """The class folders, the same in all splits."""
    found = {split: {p.name for p in (root / split).iterdir() if p.is_dir() and not p.name.startswith(".")} for split in SPLITS}
    everything = sorted(set.union(*found.values()))
    for name in everything:
        for split in SPLITS:
            if name not in found[split]:
                raise BadConfig(f"class {name} is missing in {root / split}: each class must have a folder in train/, valid/ and test/")
    if len(everything) < 2:
        raise BadConfig(f"{root / 'train'} has {len(everything)} class folders, and telling apart needs 2 or more: {LAYOUT}")
    return tuple(everything)


def _files(place: Path) -> list[Path]:
    """The images of one class; files that the system hides (.DS_Store) do not count."""
    files = sorted(p for p in place.iterdir() if not p.name.startswith("."))
    if not files:
        raise BadConfig(f"{place} has no images: put some there, or delete this class from train/, valid/ and test/")
    return files


def _check_file(path: Path) -> None:
    try:
        if not images.looks_whole(path):
            images.decode(path)
    except images.BadImage as error:
        raise BadConfig(unreadable(path, error)) from error
    except OSError as error:
        raise BadConfig(f"{path} cannot be read: {error.strerror or error}") from error


def _without_unreadable(folder: Folder, root: Path) -> Folder:
    """Decode everything, because a file may be damaged in its middle; what is left must still have every class in every split."""
    kept, skipped = {}, []
    with ThreadPoolExecutor() as pool:
        for split, files in folder.files.items():
            said = list(pool.map(_why_unreadable, (path for path, _ in files)))
            kept[split] = [pair for pair, why in zip(files, said, strict=True) if not why]
            skipped += [why for why in said if why]
            for label in set(range(len(folder.classes))) - {label for _, label in kept[split]}:
                raise BadConfig(f"no image in {root / split / folder.classes[label]} can be decoded: put some there that can")
    return replace(folder, files=kept, skipped=tuple(skipped))


def _why_unreadable(path: Path) -> str | None:
    try:
        images.decode(path)
    except images.BadImage as error:
        return f"{path} is left out: {error}"
    except OSError as error:
        return f"{path} is left out: it cannot be read: {error.strerror or error}"
    return None
