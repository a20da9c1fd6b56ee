"""``python -m opml predict``: ask an endpoint about pictures, from the shell."""

import argparse
from pathlib import Path

from botocore.exceptions import ClientError

from opml.aws import TARGETS, connect
from opml.errors import BadInput
from opml.estimators import predictor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``opml predict``."""
    parser.add_argument("endpoint", help="name of the endpoint")
    parser.add_argument("pictures", nargs="+", type=Path, help="JPEG or PNG files")
    parser.add_argument("--target", choices=TARGETS, default="local", help="where the endpoint stands (default: local)")


def run(args: argparse.Namespace) -> int:
    """Print the most probable breeds of each picture."""
    for picture in args.pictures:
        if not picture.is_file():
            raise BadInput(f"there is no picture {picture}: name a JPEG or PNG file")
    client = predictor(connect(args.target), args.endpoint)
    for picture in args.pictures:
        ranked = _ask(client, picture)["predictions"][0]
        print(f"{picture}: " + ", ".join(f"{one['breed']} {one['probability']:.2f}" for one in ranked))
    return 0


def _ask(client, picture: Path) -> dict:
    try:
        return client.predict(picture.read_bytes())
    except ClientError as error:
        said = error.response.get("OriginalMessage") or error.response["Error"]["Message"]
        raise BadInput(f"the endpoint refused {picture}: {said}") from error
