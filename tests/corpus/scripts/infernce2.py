"""Handlers as the course's: weights downloaded and overwritten, JPEG bytes or an address in JSON, the default output."""

import io
import json
import logging
import os
import sys

import requests
import torch
from PIL import Image
from torch import nn
from torchvision import models, transforms

logger = logging.getLogger(__name__)
logger.setLevel(logging.DEBUG)
logger.addHandler(logging.StreamHandler(sys.stdout))
JSON_CONTENT_TYPE, JPEG_CONTENT_TYPE = "application/json", "image/jpeg"


def Net():
    model = models.resnet50(pretrained=True)
    model.fc = nn.Sequential(nn.Linear(2048, 128), nn.ReLU(inplace=True), nn.Linear(128, 133))
    return model


def model_fn(model_dir):
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = Net().to(device)
    with open(os.path.join(model_dir, "model.pth"), "rb") as file:
        model.load_state_dict(torch.load(file, map_location=device))
    model.eval()
    return model


def input_fn(request_body, content_type=JPEG_CONTENT_TYPE):
    logger.debug(f"Request body CONTENT-TYPE is: {content_type}")
    if content_type == JPEG_CONTENT_TYPE:
        return Image.open(io.BytesIO(request_body))
    if content_type == JSON_CONTENT_TYPE:
        url = json.loads(request_body)["url"]
        return Image.open(io.BytesIO(requests.get(url).content))
    raise Exception(f"Requested unsupported ContentType in content_type: {content_type}")


def predict_fn(input_object, model):
    scale = transforms.Compose([transforms.Resize((64, 64)), transforms.ToTensor()])
    with torch.no_grad():
        return model(scale(input_object).unsqueeze(0))
