"""A script as students write it beside Debugger's example: the hook made at import, required flags, a progress bar, data by boto3."""

import argparse
import logging
import os
import sys

import boto3
import smdebug.pytorch as smd
import torch
import torchvision.transforms as transforms
from PIL import ImageFile
from smdebug.profiler.utils import str2bool
from smdebug.pytorch import get_hook, modes
from torch import nn, optim
from torchvision.datasets import ImageFolder
from torchvision.models import ResNet18_Weights, resnet18
from tqdm import tqdm

ImageFile.LOAD_TRUNCATED_IMAGES = True
logging.basicConfig(level=logging.INFO)
logger = logging.getLogger(__name__)
logger.addHandler(logging.StreamHandler(sys.stdout))
hook = get_hook(create_if_not_exists=True)
logger.info(f"Hook {hook}")


def fetch(bucket, prefix):
    """All objects below a prefix, into the current folder."""
    for found in boto3.resource("s3").Bucket(bucket).objects.filter(Prefix=prefix):
        os.makedirs(os.path.dirname(found.key), exist_ok=True)
        boto3.client("s3").download_file(bucket, found.key, found.key)


def loader(folder, batch_size):
    scale = transforms.Compose([
        transforms.RandomResizedCrop(40), transforms.RandomHorizontalFlip(), transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ])  # fmt: skip
    return torch.utils.data.DataLoader(ImageFolder(folder, transform=scale), batch_size=batch_size, shuffle=True, num_workers=2)


def main(args):
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if args.bucket:
        fetch(args.bucket, "by-boto3")
        args.data = "by-boto3"
    model = resnet18(weights=ResNet18_Weights.DEFAULT if args.pretrained else None)
    model.fc = nn.Linear(model.fc.in_features, 133)
    model, criterion = model.to(device), nn.CrossEntropyLoss()
    optimizer = optim.SGD(model.fc.parameters(), lr=args.lr, momentum=0.9)
    scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.1)
    if hook:
        hook.register_module(model)
        hook.register_loss(criterion)
    for epoch in range(args.epochs):
        for phase, mode in (("train", modes.TRAIN), ("valid", smd.modes.EVAL)):
            model.train(phase == "train")
            if hook:
                hook.set_mode(mode)
            running = 0.0
            for inputs, labels in tqdm(loader(os.path.join(args.data, phase), args.batch_size), desc=f"{phase} {epoch}"):
                loss = criterion(model(inputs.to(device)), labels.to(device))
                if phase == "train":
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                running += loss.item()
            logger.info(f"{phase} epoch {epoch} loss={running:.4f}")
        scheduler.step()
    with open(os.path.join(args.model_dir, "model.pth"), "wb") as path:
        torch.save(model.cpu().state_dict(), path)
    with open(os.path.join(args.output_dir, "done.txt"), "w") as file:
        file.write("done")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--pretrained", type=str2bool, default=True)
    parser.add_argument("--bucket", type=str, default="")
    parser.add_argument("--data", type=str, default=os.environ.get("SM_CHANNEL_TRAINING"))
    parser.add_argument("--model-dir", type=str, default=os.environ["SM_MODEL_DIR"])
    parser.add_argument("--output-dir", type=str, default=os.environ["SM_OUTPUT_DATA_DIR"])
    main(parser.parse_args())
