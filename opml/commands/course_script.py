"""What most people run today, written anew: the yardstick of ``python -m opml bench train``, started as a process of its own.

One forward pass for each image in each epoch, NCHW, float32, no workers. It does the same work as ``hpo.py --freeze backbone``:
the same splits, the same number of epochs, validation after each, a test pass at the end, one model written.
"""

import argparse
import os
import time
from pathlib import Path

import torch
from torch import nn
from torchvision import datasets, models, transforms

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main() -> None:
    """Train the last layer of a network whose other layers are frozen."""
    args = _arguments()
    started = time.perf_counter()
    side = args.image_size
    scaled = [transforms.Resize(round(side * 256 / 224)), transforms.CenterCrop(side)]
    preset = transforms.Compose([*scaled, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    splits = {name: datasets.ImageFolder(Path(args.data) / name, preset) for name in ("train", "valid", "test")}
    loaders = {name: torch.utils.data.DataLoader(some, args.batch_size, shuffle=name == "train") for name, some in splits.items()}
    model = models.get_model(args.arch, weights=None)
    for parameter in model.parameters():
        parameter.requires_grad = False
    model.fc = nn.Linear(model.fc.in_features, len(splits["train"].classes))
    optimizer = torch.optim.Adam(model.fc.parameters(), lr=1e-3)
    for epoch in range(1, args.epochs + 1):
        model.train()
        _run(model, loaders["train"], optimizer)
        model.eval()
        print(f"epoch {epoch}: validation loss {_run(model, loaders['valid']):.4f}", flush=True)
    print(f"test loss {_run(model, loaders['test']):.4f}")
    torch.save(model.state_dict(), Path(args.model_dir) / "model.pth")
    print(f"done in {time.perf_counter() - started:.1f} s")


def _run(model: nn.Module, loader, optimizer=None) -> float:
    """The mean loss over a split; with an optimizer the head learns from it."""
    total = 0.0
    for pictures, labels in loader:
        loss = nn.functional.cross_entropy(model(pictures), labels)
        if optimizer:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        total += loss.item() * len(labels)
    return total / len(loader.dataset)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default=os.environ.get("SM_CHANNEL_TRAINING"))
    parser.add_argument("--model_dir", default=os.environ.get("SM_MODEL_DIR"))
    parser.add_argument("--arch", default="resnet50")
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch_size", type=int, default=32)
    return parser.parse_args()


if __name__ == "__main__":
    main()
