"""Train a dog-breed classifier on an EC2 instance, or on any machine with PyTorch: python ec2train.py

Change the constants below, or override one: python ec2train.py --epochs 10. It needs torch and torchvision, and no AWS library.
"""

import sys

from opml.core.config import TrainConfig
from opml.core.door import run

# Folders, from where this is started.
DATA = "data"  # train/ valid/ test/, each with NNN.Breed_name/*.jpg
MODEL_DIR = "model"  # model.pth and model.json are written here
OUTPUT_DIR = "output"  # metrics.json is written here

# The network.
ARCH = "resnet18"  # resnet18, resnet34 or resnet50
WEIGHTS = "auto"  # ImageNet's where they can be had, else none
FREEZE = "auto"  # train only the last layer when there are weights; backbone, layer3, layer2, layer1 or none
IMAGE_SIZE = 224  # pixels

# Training.
EPOCHS = 5
BATCH_SIZE = 32
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 0.0
SCHEDULE = "cosine"  # cosine, onecycle or constant
PATIENCE = 0  # end after so many epochs without progress; 0 never
AUGMENT = True  # random crops and flips
SEED = 0

# What is frozen computes once.
FEATURES = "once"  # or each_epoch
VIEWS = 1  # of each training image: 1 is the middle, all more are random parts
PRECISION = "auto"  # measured; float32 or bfloat16

# Who watches.
RECORD = True  # losses, gradients and times are recorded, and judged by rules
RECORD_INTERVAL = 20  # steps between two looks at gradients
ON_FINDING = "warn"  # or stop

# The machine and the job.
WORKERS = 0  # threads that decode; 0: one for each core
CHECKPOINT_DIR = "auto"  # a folder, to resume from after an interruption; auto: none but in a SageMaker job
CHECKPOINT_EVERY = 0  # steps; 0: each epoch
SKIP_UNREADABLE = False  # leave out images that cannot be decoded
JOIN = True  # several processes train one model
REQUIRE_DISTRIBUTED = False  # fail where nothing joins the instances of the job
PRICE_PER_HOUR = 0.0  # of one instance, USD


def constants() -> dict:
    """The constants above by the names of TrainConfig's fields."""
    return {name.lower(): value for name, value in globals().items() if name.isupper()}


if __name__ == "__main__":
    sys.exit(run(TrainConfig.from_args(description=__doc__.splitlines()[0], defaults=constants())))
