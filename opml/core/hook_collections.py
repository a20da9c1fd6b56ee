"""What SageMaker Debugger's hook saves of a training job, and how often: for the jobs of the SDK, and for a configuration of our own."""

GRADIENTS_EVERY = 40  # steps; every 20 made small training steps 11 % slower (``python -m opml bench recorder``)


def collections(losses: int = 10, valid: int = 1, gradients: int = GRADIENTS_EVERY, inputs: int | None = None) -> dict[str, dict[str, str]]:
    """The collections that the rules read: name -> parameters.

    Parameters
    ----------
    losses, valid, gradients : int
        Steps between two saves of the loss in training and in validation, and of the gradients.
    inputs : int, optional
        Steps between two saves of all ReLU inputs. None: the first step, and each 500th, which is smdebug's own interval beside
        ``save_steps``; for a ResNet-50 at 224 px they are 38 MB an image.
    """
    return {
        "losses": {"train.save_interval": str(losses), "eval.save_interval": str(valid)},
        "gradients": {"save_interval": str(gradients)},
        "relu_input": {"include_regex": ".*relu_input", **({"save_interval": str(inputs)} if inputs else {"save_steps": "0"})},
    }
