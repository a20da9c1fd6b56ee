"""opml.core.images: from hostile or merely odd bytes to the network's input."""

import errno
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from opml.core import images
from opml.core.images import BadImage, decode, looks_whole


def picture(mode="RGB", size=(60, 40), kind="PNG", **options) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    body = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(body, kind, **options)
    return body.getvalue()


@pytest.mark.parametrize(
    "mode, kind", [("L", "PNG"), ("P", "PNG"), ("RGBA", "PNG"), ("LA", "PNG"), ("1", "PNG"), ("CMYK", "JPEG"), ("RGB", "WEBP")]
)
def test_every_kind_of_picture_becomes_rgb(mode, kind):
    image = decode(io.BytesIO(picture(mode, kind=kind)))
    assert (image.mode, image.size) == ("RGB", (60, 40))


def test_sixteen_bit_grey_is_scaled_and_not_clipped():
    body = io.BytesIO()
    Image.fromarray(np.full((8, 8), 32768, dtype=np.uint16)).save(body, "PNG")
    assert decode(body).getpixel((0, 0)) == (128, 128, 128)


def test_a_photograph_taken_upright_stands_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: turned by 90 degrees
    assert decode(io.BytesIO(picture(kind="JPEG", exif=exif))).size == (40, 60)


@pytest.mark.parametrize("orientation", range(10))
def test_each_way_to_hold_a_camera_is_turned_upright_as_pillow_does(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    body = io.BytesIO(picture(exif=exif))
    assert np.array_equal(decode(body), ImageOps.exif_transpose(Image.open(body)))


ODD = b"MM\0*\0\0\0\x08" + struct.pack(">HHHIHHHHIII", 2, 0x0112, 3, 1, 6, 0, 0x9999, 16, 1, 38, 0) + struct.pack(">Q", 2**40)


@pytest.mark.parametrize(("exif", "size"), [(ODD, (40, 60)), (b"MM\0", (60, 40)), (b"nonsense", (60, 40)), (ODD[:20], (60, 40))])
def test_odd_exif_does_not_spoil_a_picture_whose_pixels_are_whole(exif, size):
    assert decode(io.BytesIO(picture(kind="JPEG", exif=b"Exif\0\0" + exif))).size == size


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), MemoryError()])
def test_a_disk_or_a_memory_that_fails_is_no_damaged_picture(error, monkeypatch):
    def fail(image):
        raise error

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", fail)
    with pytest.raises(type(error)):
        decode(io.BytesIO(picture()))


def test_a_huge_photograph_is_decoded_at_reduced_size():
    image = decode(io.BytesIO(picture(size=(4200, 2100), kind="JPEG")))
    assert image.size == (2100, 1050)


def test_a_small_file_with_millions_of_pixels_gets_413_before_it_is_decoded():
    body = io.BytesIO()
    Image.new("1", (7900, 7900)).save(body, "PNG")
    with pytest.raises(BadImage, match="7900 x 7900 pixels") as refused:
        decode(body)
    assert refused.value.status_code == 413 and len(body.getvalue()) < 20_000


def test_a_decompression_bomb_gets_413():
    header = b"IHDR" + (50_000).to_bytes(4, "big") * 2 + b"\1\0\0\0\0"
    small = picture(mode="1")
    body = small[:12] + header + zlib.crc32(header).to_bytes(4, "big") + small[33:]
    with pytest.raises(BadImage, match="too many pixels") as refused:
        decode(io.BytesIO(body))
    assert refused.value.status_code == 413


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"%PDF-1.7", picture(kind="GIF"), picture(kind="BMP"), b"<svg xmlns='http://www.w3.org/2000/svg'/>"]
)
def test_what_is_no_image_of_the_allow_list_gets_415(body):
    with pytest.raises(BadImage) as refused:
        decode(io.BytesIO(body))
    assert refused.value.status_code == 415


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_half_a_picture_gets_422(kind):
    body = picture(kind=kind)
    with pytest.raises(BadImage) as refused:
        decode(io.BytesIO(body[: len(body) // 2]))
    assert refused.value.status_code == 422


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_damaged_bytes_raise_nothing_but_bad_image(kind):
    rng, whole = np.random.default_rng(1), picture(kind=kind, size=(24, 16))
    for trial in range(300):
        body = bytearray(whole[: rng.integers(len(whole))] if trial % 2 else whole)
        for place in rng.integers(len(body), size=3) if body else ():
            body[place] = rng.integers(256)
        try:
            assert decode(io.BytesIO(bytes(body))).mode == "RGB"
        except BadImage as refused:
            assert refused.status_code in (413, 415, 422)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_whole_file_looks_whole(kind, tmp_path):
    (tmp_path / "whole").write_bytes(picture(kind=kind))
    assert looks_whole(tmp_path / "whole")


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_half_a_file_does_not_look_whole(kind, tmp_path):
    body = picture(kind=kind)
    (tmp_path / "half").write_bytes(body[: len(body) // 2])
    assert not looks_whole(tmp_path / "half")


def test_the_eval_preset_normalises_with_imagenets_numbers():
    numbers = images.preprocessing(32)
    grey = images.eval_preset(numbers)(Image.new("RGB", (50, 70), (124, 116, 104)))
    assert grey.shape == (3, 32, 32) and grey.abs().max() < 0.02, "the mean colour of ImageNet becomes 0"
