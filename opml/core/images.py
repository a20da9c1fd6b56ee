"""From the bytes of a picture to the network's input: the same code for training, validation and serving."""

import os
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from torchvision import transforms

FORMATS = ("JPEG", "PNG", "WEBP")  # an allow-list: Pillow would try 40 decoders, some of them with a bad history
MAX_PIXELS = 25_000_000  # 25 megapixels decode to 75 MB; a PNG of 10 kB can hold 80 of them
MAX_SIDE = 8000  # pixels
DRAFT_SIDE = 1024  # a JPEG is decoded at 1/2, 1/4 or 1/8 of its size if its sides stay at least so long, pixels: several times faster
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet (red, green, blue), which the pretrained weights expect


class BadImage(ValueError):
    """A picture that cannot be used; ``status_code`` is what an HTTP server answers (413, 415 or 422)."""

    def __init__(self, status_code: int, message: str):
        super().__init__(message)
        self.status_code = status_code


def open_image(source: str | Path | IO[bytes]) -> Image.Image:
    """Read a picture's header only, with limits on format and size.

    Raises
    ------
    BadImage : 415 if it is none of :data:`FORMATS`, 413 if it has too many pixels.
    """
    try:
        image = Image.open(source, formats=FORMATS)
    except UnidentifiedImageError as error:
        raise BadImage(415, f"this is not an image that can be read here ({', '.join(FORMATS)})") from error
    except Image.DecompressionBombError as error:
        raise BadImage(413, f"the image has too many pixels (at most {MAX_PIXELS:,})") from error
    except (SyntaxError, ValueError, EOFError, OSError) as error:  # what Pillow's header readers raise for damaged files
        if isinstance(error, OSError) and error.errno is not None:  # the file, not what is in it: missing, no permission
            raise
        raise BadImage(422, "the image's header is damaged") from error
    width, height = image.size
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise BadImage(413, f"the image is {width} x {height} pixels; at most {MAX_PIXELS:,} in all and {MAX_SIDE} a side")
    return image


def decode(source: str | Path | IO[bytes]) -> Image.Image:
    """Read a picture, upright and RGB.

    Raises
    ------
    BadImage : see :func:`open_image`; 422 if the file is cut short or damaged.
    """
    with open_image(source) as image:
        image.draft(None, (DRAFT_SIDE, DRAFT_SIDE))
        try:
            image.load()  # only this reads the pixels: verify() accepts half a JPEG
            return to_rgb(ImageOps.exif_transpose(image))
        except Exception as error:  # a decoder fed with damaged bytes raises whatever it meets: OSError, SyntaxError, struct.error ...
            raise BadImage(422, "the image is cut short or damaged") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Grey, palette, transparent, CMYK and 16-bit pictures as 8-bit RGB."""
    if image.mode.startswith("I"):  # 16-bit grey: convert() would clip at 255 instead of scaling
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    return image.convert("RGB")


def looks_whole(path: str | Path) -> bool:
    """Whether a file has an image's header and, at its end, an image's last bytes; cheap enough to ask for each file of a folder.

    A file cut short has not. False does not mean damaged (bytes may follow a JPEG): then :func:`decode` has the last word.
    """
    with open(path, "rb") as file:
        kind = open_image(file).format
        file.seek(4)
        length = int.from_bytes(file.read(4), "little")  # of a WEBP after its first 8 bytes
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 12))
        tail = file.read()
    if kind == "WEBP":
        return size >= 8 + length
    return tail.endswith(b"\xff\xd9") if kind == "JPEG" else tail[4:8] == b"IEND"


def preprocessing(image_size: int) -> dict:
    """The numbers of :func:`eval_preset`, as the artefact carries them: sides in pixels, mean and deviation a channel."""
    return {"image_size": image_size, "resize": round(image_size * 256 / 224), "mean": list(MEAN), "std": list(STD)}


def eval_preset(numbers: dict) -> transforms.Compose:
    """Validation, test and serving: the short side to ``resize``, the middle, to a float tensor [3, image_size, image_size]."""
    return transforms.Compose(
        [transforms.Resize(numbers["resize"]), transforms.CenterCrop(numbers["image_size"]), *_to_input(numbers["mean"], numbers["std"])]
    )


def train_preset(numbers: dict) -> transforms.Compose:
    """Training: a random part (at least half) of the picture, mirrored or not; the random numbers are torch's."""
    crop = transforms.RandomResizedCrop(numbers["image_size"], scale=(0.5, 1.0), ratio=(0.8, 1.25))
    return transforms.Compose([crop, transforms.RandomHorizontalFlip(), *_to_input(numbers["mean"], numbers["std"])])


def _to_input(mean: list[float], std: list[float]) -> list:
    return [transforms.ToTensor(), transforms.Normalize(mean, std)]
