"""Everything of one run: listed with what it bills, and torn down. What belongs to a run, and how each kind goes, is in ``kinds``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pandas as pd
from botocore.exceptions import BotoCoreError, ClientError

from opml.errors import OpmlError
from opml.kinds import KINDS, Kind, is_gone

if TYPE_CHECKING:
    from opml.aws import Aws


def inventory(aws: Aws) -> pd.DataFrame:
    """Everything of this run that exists: columns kind, name, bills (a price, or "no"). Empty if nothing is left.

    Completed jobs are history and not listed. The shared role and bucket belong to no run.
    """
    rows = [(found.kind, found.name, found.bills) for kind in KINDS for found in kind.find(aws)]
    return pd.DataFrame(rows, columns=["kind", "name", "bills"])


def teardown(aws: Aws, keep: bool = False) -> pd.DataFrame:
    """Delete everything of this run, in the right order, and return what is left. Running it again does no harm.

    Parameters
    ----------
    keep : bool
        Delete nothing; for those who go on with the next notebook. The table shows what goes on billing.

    Raises
    ------
    OpmlError
        Something could not be deleted; everything else was. Names each thing and the reason.
    """
    problems = [] if keep else [problem for kind in KINDS for problem in _delete_all(aws, kind)]
    if problems:
        raise OpmlError(f"{len(problems)} things of run {aws.run_id} are left: " + "; ".join(problems) + ". Run the teardown again.")
    return inventory(aws)


def _delete_all(aws: Aws, kind: Kind) -> Iterator[str]:
    try:
        found = list(kind.find(aws))
    except (ClientError, BotoCoreError) as error:
        yield f"{kind.name}s could not be listed ({error})"
        return
    for resource in found:
        try:
            kind.delete(aws, resource)
        except (ClientError, BotoCoreError, OpmlError) as error:
            if not is_gone(error):
                yield f"{resource.kind} {resource.name} ({error})"
