"""From the bytes of a picture to the network's input: the same code for training, validation and serving."""

import errno
import math
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

Turn = Image.Transpose
FORMATS = ("JPEG", "PNG", "WEBP")  # an allow-list: Pillow would try 40 decoders, some of them with a bad history
MAX_PIXELS = 25_000_000  # 25 megapixels decode to 75 MB; a PNG of 10 kB can hold 80 of them
MAX_SIDE = 8000  # pixels
DRAFT_SIDE = 1024  # a JPEG is decoded at 1/2, 1/4 or 1/8 of its size if its sides stay at least so long, pixels: several times faster
ORIENTATION = 0x0112  # EXIF's tag; and what makes its values upright (EXIF 2.32, 4.6.4)
TURNS = dict(zip(range(2, 9), (Turn.FLIP_LEFT_RIGHT, Turn.ROTATE_180, Turn.FLIP_TOP_BOTTOM, Turn.TRANSPOSE, Turn.ROTATE_270,
    Turn.TRANSVERSE, Turn.ROTATE_90), strict=True))  # fmt: skip
NO_EXIF = (struct.error, SyntaxError, ValueError, TypeError, LookupError, AttributeError, EOFError, OSError)  # of Pillow's reader of it
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
    OSError, MemoryError : the disk or the memory failed, and not the picture.
    """
    with open_image(source) as image:
        image.draft(None, (DRAFT_SIDE, DRAFT_SIDE))
        try:
            image.load()  # only this reads the pixels: verify() accepts half a JPEG
            rgb = to_rgb(image)
        except MemoryError:
            raise
        except Exception as error:  # a decoder fed with damaged bytes raises whatever it meets: OSError, SyntaxError, struct.error ...
            if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # EINVAL: to seek where a damaged file points
                raise
            raise BadImage(422, "the image is cut short or damaged") from error
        turn = TURNS.get(_orientation(image))
    return rgb if turn is None else rgb.transpose(turn)


def _orientation(image: Image.Image) -> int:
    """How the camera was held, by EXIF; 1, upright, where that cannot be read: the pixels are whole all the same."""
    try:
        return image.getexif().get(ORIENTATION, 1)
    except NO_EXIF:
        return 1


def to_rgb(image: Image.Image) -> Image.Image:
    """Grey, palette, transparent, CMYK and 16-bit pictures as 8-bit RGB."""
    if image.mode.startswith("I"):  # 16-bit grey: convert() would clip at 255 instead of scaling
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    return image if image.mode == "RGB" else image.convert("RGB")  # convert() would copy


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


def eval_preset(numbers: dict) -> Callable[[Image.Image], torch.Tensor]:
    """Validation, test and serving: a picture to a float tensor [3, image_size, image_size]."""
    return lambda image: to_input(middle(image, numbers)[None], numbers)[0]


def middle(image: Image.Image, numbers: dict) -> torch.Tensor:
    """The short side scaled to ``resize``, and of that the middle: uint8 [image_size, image_size, 3].

    In one step: pixels that the crop would throw away are never computed.
    """
    side = min(image.size) * numbers["image_size"] / numbers["resize"]
    left, top = (image.width - side) / 2, (image.height - side) / 2
    return _scaled(image, (left, top, left + side, top + side), numbers["image_size"])


def random_part(image: Image.Image, numbers: dict, draw: random.Random) -> torch.Tensor:
    """A random part (at least half) of the picture, mirrored or not: uint8 [image_size, image_size, 3]."""
    for _ in range(10):  # a part of that area and shape may not fit into the picture
        area = image.width * image.height * draw.uniform(0.5, 1.0)
        ratio = math.exp(draw.uniform(math.log(0.8), math.log(1.25)))
        width, height = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if width <= image.width and height <= image.height:
            break
    else:
        width = height = min(image.size)
    left, top = draw.uniform(0, image.width - width), draw.uniform(0, image.height - height)
    pixels = _scaled(image, (left, top, left + width, top + height), numbers["image_size"])
    return pixels.flip(1) if draw.random() < 0.5 else pixels


def _scaled(image: Image.Image, box: tuple[float, float, float, float], side: int) -> torch.Tensor:
    return torch.from_numpy(np.array(image.resize((side, side), Image.Resampling.BILINEAR, box=box)))


def to_input(pixels: torch.Tensor, numbers: dict) -> torch.Tensor:
    """Pixels [n, side, side, 3], uint8, to the network's input [n, 3, side, side], float32, where the pixels are.

    Nothing is moved for the new order of dimensions: an image in Pillow's order is a tensor in the channels-last format.
    """
    mean, std = (torch.tensor(numbers[name], device=pixels.device).view(1, 3, 1, 1) for name in ("mean", "std"))
    return pixels.permute(0, 3, 1, 2).float().div_(255).sub_(mean).div_(std)
