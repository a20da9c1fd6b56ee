"""What goes into a training job's folders before it runs and what comes out of them afterwards: S3 and archives."""

import contextlib
import io
import os
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from opml.localaws import iam_acting, state
from opml.localaws.settings import settings


class JobFault(Exception):
    """The job fails, for the reason given: AWS's own words where there are some."""


def download(channel: dict, folder: Path, index: int, count: int, role_arn: str) -> None:
    """Copy a channel's objects to ``folder``; sharded by key, instance ``index`` of ``count`` takes every ``count``-th object."""
    source = channel["DataSource"]["S3DataSource"]
    bucket, prefix = state.split_uri(source["S3Uri"])
    with denied(f"Data download failed:Unable to list objects under {source['S3Uri']}"):
        keys = [key for key in state.list_objects(source["S3Uri"]) if not key.endswith("/")]
    if not keys:
        raise JobFault(_nothing_there(source["S3Uri"], role_arn))
    if source.get("S3DataDistributionType") == "ShardedByS3Key":
        keys = keys[index::count]
    for key in keys:
        uri = f"s3://{bucket}/{key}"
        body = fetch(uri, f"Data download failed:Unable to download object {uri}")
        write(folder, key[len(prefix) :].lstrip("/") or PurePosixPath(key).name, body)


def fetch(uri: str, what: str) -> bytes:
    """The bytes of an object as they are now; one that may not be read, or is gone since it was listed, is the job's fault."""
    try:
        with denied(what):
            return state.get_object(uri)
    except state.NoSuchObject:
        raise JobFault(f"ClientError: {what} (NoSuchKey)") from None


@contextlib.contextmanager
def denied(what: str) -> Iterator[None]:
    """What the job's role may not do is the job's fault (AWS's words, as users report them)."""
    try:
        yield
    except iam_acting.AccessDenied as error:
        raise JobFault(f"ClientError: {what} (AccessDenied: {error})") from None


def _nothing_there(uri: str, role_arn: str) -> str:
    bucket, _ = state.split_uri(uri)
    return (
        f'ClientError: Data download failed:No S3 objects found under S3 URL "{uri}" given in input data source. Please ensure that the'
        f" bucket exists in the selected region ({settings.region}), that objects exist under that S3 prefix, and that the role"
        f' "{role_arn}" has "s3:ListBucket" permissions on bucket "{bucket}".'
    )


def write(folder: Path, relative: str, body: bytes) -> None:
    """Write one object's file; one that would lie outside the folder is the job's fault."""
    target = folder / relative
    if not target.resolve().is_relative_to(folder.resolve()):
        raise JobFault(f"ClientError: Data download failed:the object key {relative!r} leaves the channel's folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(body)


def unpack_code(uri: str, folder: Path) -> None:
    """Unpack the uploaded ``sourcedir.tar.gz``."""
    try:
        archive = state.get_object(uri)
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:*") as tar:
            tar.extractall(folder, filter="data")
    except iam_acting.AccessDenied as error:  # on AWS it is the container that fetches the code
        failed = "botocore.exceptions.ClientError: An error occurred (403) when calling the HeadObject operation: Forbidden"
        raise JobFault(f"AlgorithmError: framework error: \n{failed}\n{uri}: {error}") from None
    except state.NoSuchObject:
        raise JobFault(f"ClientError: Source code download failed:no object {uri}") from None
    except tarfile.TarError as error:
        raise JobFault(f"ClientError: Source code {uri} is not a usable tar archive: {error}") from None


def pack(folders: Iterable[Path], scratch: Path) -> bytes | None:
    """All files of the folders as one tar.gz (of equal names the first counts); None if there are none."""
    seen = set()
    with tempfile.TemporaryFile(dir=scratch) as file:
        with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as tar:
            for folder in folders:
                for path in files(folder):
                    name = str(path.relative_to(folder))
                    if name not in seen:
                        seen.add(name)
                        tar.add(path, name)
        file.seek(0)
        return file.read() if seen else None


def files(folder: Path) -> list[Path]:
    """All files below a folder, sorted."""
    return sorted(Path(parent, name) for parent, _, names in os.walk(folder) for name in names)


def upload(uri: str, body: bytes) -> None:
    """Put one artefact; a bucket that is not there is the job's fault."""
    try:
        with denied(f"Artifact upload failed:Unable to upload object {uri}"):
            state.put_object(uri, body)
    except state.NoSuchObject:
        raise JobFault(f"ClientError: Artifact upload failed:the bucket of {uri} does not exist") from None
