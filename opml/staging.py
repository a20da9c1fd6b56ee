"""What travels: the cargo staged into a folder of its own, and the data channel of a run in S3."""

from __future__ import annotations

import atexit
import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from opml.errors import BadInput

if TYPE_CHECKING:
    from opml.aws import Aws

REPOSITORY = Path(__file__).resolve().parents[1]


def stage_source(door: str = "hpo.py", folder: str | Path | None = None, requirements: Sequence[str] = ()) -> Path:
    """Copy what travels, and nothing else, into a folder: the door, ``opml/__init__.py`` and ``opml/core/*.py``.

    A ``setup.py`` in that folder would turn the script into a package, which the containers' launcher refuses.

    Parameters
    ----------
    folder : path, optional
        An empty or new folder. Default: a temporary one that is removed when Python ends.
    requirements : sequence of str
        Lines of a requirements.txt, which a container installs before it starts the door.

    Raises
    ------
    BadInput
        The door does not exist, or the folder has something in it.
    """
    if not (REPOSITORY / door).is_file():
        raise BadInput(f"there is no door {door!r} at the top of the repository: use hpo.py or ec2train.py")
    target = _temporary("opml-source-") if folder is None else Path(folder)
    if target.is_dir() and any(target.iterdir()):
        raise BadInput(f"folder {target} is not empty: stage into a new one, so that nothing else travels")
    (target / "opml" / "core").mkdir(parents=True)
    core = sorted((REPOSITORY / "opml" / "core").glob("*.py"))
    for source in [REPOSITORY / door, REPOSITORY / "opml" / "__init__.py", *core]:
        shutil.copyfile(source, target / source.relative_to(REPOSITORY))
    if requirements:
        (target / "requirements.txt").write_text("\n".join([*requirements, ""]))
    return target


def _temporary(prefix: str) -> Path:
    folder = tempfile.mkdtemp(prefix=prefix)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def upload_sample(aws: Aws, folder: str | Path) -> str:
    """Make the run's data channel in S3 equal to a folder: new files are sent, files that are gone are deleted.

    Returns
    -------
    str
        The S3 URI of the channel.

    Raises
    ------
    BadInput
        The folder does not exist or has no ``train`` folder.
    """
    return _upload(aws, Path(folder), {"folder": digest(folder)})


def _upload(aws: Aws, folder: Path, origin: dict) -> str:
    if not (folder / "train").is_dir():
        raise BadInput(f"{folder} has no folder train/: name the folder that holds train/, valid/ and test/")
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    s3, prefix = aws.client("s3"), _key(aws, "data") + "/"
    stale = [key for key in _keys(aws, prefix) if key.removeprefix(prefix) not in files]
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda name: s3.upload_file(str(files[name]), aws.bucket, prefix + name), files))
        list(pool.map(lambda key: s3.delete_object(Bucket=aws.bucket, Key=key), stale))
    # Written last and beside the channel: a channel without it was interrupted, and is sent again.
    s3.put_object(Bucket=aws.bucket, Key=_key(aws, "data.json"), Body=json.dumps({"files": len(files), **origin}).encode())
    return aws.uri("data")


def upload(aws: Aws, path: str | Path, *parts: str) -> str:
    """Send a file, or all files of a folder, to a place under the run's prefix in S3.

    Returns
    -------
    str
        The S3 URI of the file, or of the folder: ``aws.uri(*parts)``, followed by the file's name for a file.

    Raises
    ------
    BadInput
        There is no such file or folder.
    """
    path = Path(path)
    if not path.exists():
        raise BadInput(f"there is no file or folder {path} to upload")
    top = path.parent if path.is_file() else path
    files = [path] if path.is_file() else [file for file in sorted(path.rglob("*")) if file.is_file()]
    for file in files:
        aws.client("s3").upload_file(str(file), aws.bucket, _key(aws, *parts, *file.relative_to(top).parts))
    return aws.uri(*parts, path.name) if path.is_file() else aws.uri(*parts)


def digest(folder: str | Path) -> str:
    """A fingerprint of a data folder: names and sizes of its files."""
    folder = Path(folder)
    names = [f"{p.relative_to(folder).as_posix()} {p.stat().st_size}" for p in sorted(folder.rglob("*")) if p.is_file()]
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]


def _key(aws: Aws, *parts: str) -> str:
    return aws.uri(*parts).removeprefix(f"s3://{aws.bucket}/")


def _keys(aws: Aws, prefix: str) -> list[str]:
    pages = aws.client("s3").get_paginator("list_objects_v2").paginate(Bucket=aws.bucket, Prefix=prefix)
    return [item["Key"] for page in pages for item in page.get("Contents", [])]


def ensure_data(aws: Aws, folder: str | Path | None = None, **sample) -> str:
    """The run's data channel: what an earlier notebook uploaded, else the folder, else a generated sample.

    Parameters
    ----------
    folder : path, optional
        A folder in the dogImages layout; it is uploaded unless the channel already holds the same files.
    **sample
        Arguments of ``opml.core.sample.make_sample`` for a channel that must be drawn.

    Returns
    -------
    str
        The S3 URI of the channel.
    """
    wanted = {"folder": digest(folder)} if folder else {"sample": sample}
    found = _uploaded(aws)
    if found and (found.items() >= wanted.items() or not (folder or sample)):
        return aws.uri("data")
    if folder:
        return upload_sample(aws, folder)
    from opml.core.sample import make_sample

    print(f"no such data of run {aws.run_id} yet: drawing a generated sample and uploading it", flush=True)
    return _upload(aws, Path(make_sample(_temporary("opml-sample-") / "sample", **sample)), wanted)


def _uploaded(aws: Aws) -> dict | None:
    try:
        return json.load(aws.client("s3").get_object(Bucket=aws.bucket, Key=_key(aws, "data.json"))["Body"])
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("NoSuchKey", "NoSuchBucket", "404"):
            raise
        return None
