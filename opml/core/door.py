"""What both doors do around training: say what is wrong in one sentence, and with which exit code."""

import sys
import traceback

from opml.core import dist
from opml.core.config import BadConfig, TrainConfig, report_failure, stop
from opml.core.stopping import EXIT_CODE, Stopped
from opml.core.train import fit


def run(config: TrainConfig) -> int:
    """Train and return 0.

    What the user can put right ends in one sentence and exit code 2; what nobody expected keeps its traceback and gives exit code 1.
    """
    try:
        fit(config)
    except BadConfig as error:
        stop(str(error))
    except Stopped:
        sys.exit(EXIT_CODE)  # not 0: whoever started this must not take the job for done
    except dist.Lost as error:
        stop(str(error), exit_code=1)  # nothing that this process's user gave it
    except Exception as error:
        report_failure(f"{type(error).__name__}: {error}\n\n{traceback.format_exc()}")
        raise
    return 0
