"""The serving contract: four small functions. Bytes come in, nothing is ever fetched."""

import io
import json

import torch
from PIL import Image

from opml.core import images, model

MAX_BODY = 6_291_456  # bytes: what InvokeEndpoint lets through
IMAGE_TYPES = ("image/jpeg", "image/png", "image/webp", "application/x-image")
TOP = 5  # predictions in an answer

try:  # in a serving container this class carries a status to the caller
    from sagemaker_inference.errors import BaseInferenceToolkitError
except ImportError:

    class BaseInferenceToolkitError(Exception):
        """The toolkit's class of the same name, where there is no toolkit: an HTTP status and a message for the caller."""

        def __init__(self, status_code: int, message: str, phrase: str):
            super().__init__(status_code, message, phrase)
            self.status_code, self.message, self.phrase = status_code, message, phrase


class RequestError(BaseInferenceToolkitError):
    """The request cannot be answered, and the message may be shown to whoever sent it."""

    PHRASES = {406: "Not Acceptable", 413: "Payload Too Large", 415: "Unsupported Media Type", 422: "Unprocessable Entity"}

    def __init__(self, status_code: int, message: str):
        super().__init__(status_code, message, self.PHRASES[status_code])


def model_fn(model_dir: str) -> model.Artefact:
    """Load the artefact; called once per server process."""
    artefact = model.load(model_dir)
    return model.Artefact(artefact.model.to(_device()), artefact.description)


def input_fn(body: bytes, content_type: str) -> Image.Image:
    """An RGB picture of a request's body.

    Raises
    ------
    RequestError : 413 too big, 415 not an image, 422 a damaged one.
    """
    kind = (content_type or "").split(";")[0].strip().lower()
    if kind not in IMAGE_TYPES:
        raise RequestError(415, f"send the bytes of an image as one of {', '.join(IMAGE_TYPES)}; this endpoint fetches nothing")
    if len(body) > MAX_BODY:
        raise RequestError(413, f"the image has {len(body):,} bytes; at most {MAX_BODY:,}")
    try:
        return images.decode(io.BytesIO(body))
    except images.BadImage as error:
        raise RequestError(error.status_code, str(error)) from error


def predict_fn(image: Image.Image, artefact: model.Artefact) -> dict:
    """Logits [1][C] in class order, and the five most probable breeds."""
    batch = images.eval_preset(artefact.description["preprocessing"])(image).unsqueeze(0).to(_device())
    with torch.inference_mode():
        logits = artefact.model(batch)[0].float().cpu()
    best = logits.softmax(dim=0).topk(min(TOP, len(logits)))
    classes = artefact.description["classes"]
    ranked = [{"breed": classes[i], "probability": p} for p, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)]
    return {"logits": [logits.tolist()], "predictions": [ranked]}


def output_fn(prediction: dict, accept: str = "application/json") -> tuple[str, str]:
    """The answer and its content type.

    Raises
    ------
    RequestError : 406, the caller wants something other than JSON.
    """
    wanted = {part.split(";")[0].strip().lower() for part in (accept or "*/*").split(",")}
    if not wanted & {"application/json", "application/*", "*/*"}:
        raise RequestError(406, "this endpoint answers with application/json")
    return json.dumps(prediction, allow_nan=False), "application/json"


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
