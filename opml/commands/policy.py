"""``python -m opml policy``: the least-privilege policies of the four roles, for the administrator of a real account."""

import argparse
import json
import re

from opml import operators, policies
from opml.aws import Aws, check_run_id, hush
from opml.errors import BadInput
from opml.images import IMAGES, image_uri
from opml.operators import Site

RUN = "first"  # the notebooks' default
# Whose policy -> how it is made of the project in the account, of one run, and of the flags.
DOCUMENTS = {
    "operator": lambda site, run, args: operators.operator_policy(site, args.execution_role),
    "boundary": lambda site, run, args: operators.boundary_policy(site),
    "execution": lambda site, run, args: policies.training_policy(site if args.run_id is None else run, _images(run)),
    "lambda": lambda site, run, args: policies.lambda_policy(run, run.name("endpoint"), run.name("function")),
    "ec2": lambda site, run, args: policies.instance_policy(run),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``opml policy``."""
    parser.add_argument(
        "who", choices=DOCUMENTS,
        help="operator: whoever runs the notebooks; execution: SageMaker's jobs and endpoints; lambda: the function; ec2: the training"
        " instance; boundary: the permissions boundary of every role that the operator makes",
    )  # fmt: skip
    parser.add_argument("--account", required=True, help="the account's 12 digits (aws sts get-caller-identity)")
    parser.add_argument("--region", default="us-east-1", help="default: %(default)s")
    parser.add_argument("--bucket", help="default: sagemaker-<region>-<account>, as the SageMaker SDK names it")
    parser.add_argument("--run_id", help=f"execution: only this run's objects; lambda, ec2: of this run (default: {RUN})")
    parser.add_argument("--execution_role", default="", metavar="ARN", help="operator: the role handed to SageMaker, if not ours")


def run(args: argparse.Namespace) -> int:
    """Print one policy document; asks nobody."""
    if not re.fullmatch(r"\d{12}", args.account):
        raise BadInput(f"--account must be 12 digits, not {args.account!r}. Ask: aws sts get-caller-identity")
    run_id = RUN if args.run_id is None else args.run_id
    check_run_id(run_id)
    hush()  # the document alone is printed
    bucket = args.bucket or f"sagemaker-{args.region}-{args.account}"
    site = Site(args.region, args.account, bucket)
    one_run = Aws("aws", args.region, args.account, args.execution_role, bucket, run_id)
    print(json.dumps(DOCUMENTS[args.who](site, one_run, args), indent=1))
    return 0


def _images(aws: Aws) -> tuple[str, ...]:
    return tuple(image_uri(aws, image.purpose) for image in IMAGES)
