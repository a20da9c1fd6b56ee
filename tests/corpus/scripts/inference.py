"""Handlers that load a model pickled whole, and answer by an output_fn of their own."""

import io
import json
import os

import torch
from PIL import Image
from torchvision import transforms


def model_fn(model_dir):
    model = torch.load(os.path.join(model_dir, "model.pth"), map_location=torch.device("cpu"))
    model.eval()
    return model


def input_fn(request_body, request_content_type="image/jpeg"):
    image = Image.open(io.BytesIO(request_body)).convert("RGB")
    return transforms.Compose([transforms.Resize(48), transforms.CenterCrop(40), transforms.ToTensor()])(image).unsqueeze(0)


def output_fn(prediction, accept="application/json"):
    assert accept == "application/json"
    return json.dumps(prediction.detach().cpu().numpy().tolist())
