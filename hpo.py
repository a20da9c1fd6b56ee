"""Train a dog-breed classifier: the entry point of SageMaker training jobs, tuning jobs and endpoints.

In a training container SageMaker passes the hyper-parameters as flags and the folders as SM_* variables. A serving container
imports this file and looks for the four handlers by name. On your own machine: python hpo.py --data FOLDER --epochs 5
"""

import sys

from opml.core.config import TrainConfig
from opml.core.door import run
from opml.core.serve import input_fn, model_fn, output_fn, predict_fn

__all__ = ["input_fn", "main", "model_fn", "output_fn", "predict_fn"]


def main(argv: list[str] | None = None) -> int:
    """Parse the flags and train; several processes (SM_HOSTS or torchrun) train one model together."""
    return run(TrainConfig.from_args(argv, description=__doc__.splitlines()[0]))


if __name__ == "__main__":
    sys.exit(main())
