"""A script with Debugger's hook, dashes in its flags, hosts and GPUs from the environment, and the whole model pickled."""

import argparse
import json
import logging
import os
import sys

import smdebug.pytorch as smd
import torch
from torch import nn, optim
from torchvision import datasets, models, transforms

logger = logging.getLogger(__name__)
logger.setLevel(logging.DEBUG)
logger.addHandler(logging.StreamHandler(sys.stdout))


def net():
    model = models.resnet18(pretrained=True)
    for parameter in model.parameters():
        parameter.requires_grad = False
    model.fc = nn.Sequential(nn.Linear(model.fc.in_features, 64), nn.ReLU(), nn.Linear(64, 133), nn.LogSoftmax(dim=1))
    return model


def one_pass(model, loader, criterion, hook, optimizer=None):
    model.train(optimizer is not None)
    if hook:
        hook.set_mode(smd.modes.TRAIN if optimizer else smd.modes.EVAL)
    total, right = 0.0, 0
    for images, labels in loader:
        with torch.set_grad_enabled(optimizer is not None):
            output = model(images)
            loss = criterion(output, labels)
        if optimizer is not None:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        total += loss.item() * images.size(0)
        right += output.max(1, keepdim=True)[1].eq(labels.view(-1, 1)).sum().item()
    return total / len(loader.dataset), right


def main(args):
    model, criterion = net(), nn.NLLLoss()
    hook = smd.Hook.create_from_json_file() if args.debug else None
    if hook:
        hook.register_hook(model)
        hook.register_loss(criterion)
    scale = transforms.Compose([transforms.Resize(48), transforms.CenterCrop(40), transforms.ToTensor()])
    folders = {name: datasets.ImageFolder(os.path.join(args.data_dir, name), scale) for name in ("train", "test")}
    loaders = {name: torch.utils.data.DataLoader(data, args.batch_size, shuffle=True) for name, data in folders.items()}
    optimizer = optim.Adam(model.fc.parameters(), lr=args.lr)
    for epoch in range(1, args.epochs + 1):
        loss, _ = one_pass(model, loaders["train"], criterion, hook, optimizer)
        logger.info(f"Train Epoch: {epoch} Loss: {loss:.6f}")
        loss, right = one_pass(model, loaders["test"], criterion, hook)
        logger.info(f"Test set: Average loss: {loss:.4f}, Accuracy: {right}/{len(folders['test'])}")
    torch.save(model, os.path.join(args.model_dir, "model.pth"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=2, metavar="E")
    parser.add_argument("--batch-size", type=int, default=32, metavar="N")
    parser.add_argument("--lr", type=float, default=0.1, metavar="LR")
    parser.add_argument("--debug", type=int, default=1)
    parser.add_argument("--hosts", type=list, default=json.loads(os.environ["SM_HOSTS"]))
    parser.add_argument("--current-host", type=str, default=os.environ["SM_CURRENT_HOST"])
    parser.add_argument("--num-gpus", type=int, default=os.environ["SM_NUM_GPUS"])
    parser.add_argument("--model-dir", type=str, default=os.environ["SM_MODEL_DIR"])
    parser.add_argument("--data-dir", type=str, default=os.environ["SM_CHANNEL_TRAINING"])
    main(parser.parse_args())
