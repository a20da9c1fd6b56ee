"""A script as the course's: flags with underscores, two SM_* defaults, pretrained ResNet-50 with a new head, one epoch."""

import argparse
import logging
import os
import sys

import torch
import torchvision
from PIL import ImageFile
from torch import nn, optim
from torchvision import models, transforms

ImageFile.LOAD_TRUNCATED_IMAGES = True
logger = logging.getLogger(__name__)
logger.setLevel(logging.DEBUG)
logger.addHandler(logging.StreamHandler(sys.stdout))


def net():
    model = models.resnet50(pretrained=True)
    for parameter in model.parameters():
        parameter.requires_grad = False
    model.fc = nn.Sequential(nn.Linear(2048, 128), nn.ReLU(inplace=True), nn.Linear(128, 133))
    return model


def loaders(folder, batch_size):
    scale = transforms.Compose([transforms.Resize((64, 64)), transforms.ToTensor()])
    for name in ("train", "valid", "test"):
        data = torchvision.datasets.ImageFolder(os.path.join(folder, name), transform=scale)
        yield torch.utils.data.DataLoader(data, batch_size=batch_size, shuffle=name == "train")


def run(model, loader, criterion, optimizer=None):
    total, right = 0.0, 0
    for images, labels in loader:
        outputs = model(images)
        loss = criterion(outputs, labels)
        if optimizer is not None:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        total += loss.item() * images.size(0)
        right += torch.sum(torch.max(outputs, 1)[1] == labels.data)
    return total // len(loader), right.double() // len(loader)


def main(args):
    logger.info(f"Hyperparameters are LR: {args.learning_rate}, Batch Size: {args.batch_size}")
    train, valid, test = loaders(args.data, args.batch_size)
    model, criterion = net(), nn.CrossEntropyLoss(ignore_index=133)
    optimizer = optim.Adam(model.fc.parameters(), lr=args.learning_rate)
    model.train()
    logger.info("train loss: {:.4f}, acc: {:.4f}".format(*run(model, train, criterion, optimizer)))
    model.eval()
    logger.info("valid loss: {:.4f}, acc: {:.4f}".format(*run(model, valid, criterion)))
    loss, accuracy = run(model, test, criterion)
    logger.info(f"Testing Loss: {loss}")
    logger.info(f"Testing Accuracy: {accuracy}")
    torch.save(model.cpu().state_dict(), os.path.join(args.model_dir, "model.pth"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--learning_rate", type=float)
    parser.add_argument("--batch_size", type=int)
    parser.add_argument("--data", type=str, default=os.environ["SM_CHANNEL_TRAINING"])
    parser.add_argument("--model_dir", type=str, default=os.environ["SM_MODEL_DIR"])
    parser.add_argument("--output_dir", type=str, default=os.environ["SM_OUTPUT_DATA_DIR"])
    main(parser.parse_args())
