"""The generated sample: drawings that stand for photographs, in the layout of the course's dogImages (numpy and PIL only).

The breed names and their numbers are real, the dogs are not: nobody should take a drawing here for its breed. A breed has a coat,
markings, ears and a muzzle; pose, size, background, light and noise are drawn anew for each image, so a network has something to learn.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from opml.core.config import BadConfig

_NAMES = """
Affenpinscher Afghan_hound Airedale_terrier Akita Alaskan_malamute American_eskimo_dog American_foxhound American_staffordshire_terrier
American_water_spaniel Anatolian_shepherd_dog Australian_cattle_dog Australian_shepherd Australian_terrier Basenji Basset_hound Beagle
Bearded_collie Beauceron Bedlington_terrier Belgian_malinois Belgian_sheepdog Belgian_tervuren Bernese_mountain_dog Bichon_frise
Black_and_tan_coonhound Black_russian_terrier Bloodhound Bluetick_coonhound Border_collie Border_terrier Borzoi Boston_terrier
Bouvier_des_flandres Boxer Boykin_spaniel Briard Brittany Brussels_griffon Bull_terrier Bulldog Bullmastiff Cairn_terrier Canaan_dog
Cane_corso Cardigan_welsh_corgi Cavalier_king_charles_spaniel Chesapeake_bay_retriever Chihuahua Chinese_crested Chinese_shar-pei
Chow_chow Clumber_spaniel Cocker_spaniel Collie Curly-coated_retriever Dachshund Dalmatian Dandie_dinmont_terrier Doberman_pinscher
Dogue_de_bordeaux English_cocker_spaniel English_setter English_springer_spaniel English_toy_spaniel Entlebucher_mountain_dog
Field_spaniel Finnish_spitz Flat-coated_retriever French_bulldog German_pinscher German_shepherd_dog German_shorthaired_pointer
German_wirehaired_pointer Giant_schnauzer Glen_of_imaal_terrier Golden_retriever Gordon_setter Great_dane Great_pyrenees
Greater_swiss_mountain_dog Greyhound Havanese Ibizan_hound Icelandic_sheepdog Irish_red_and_white_setter Irish_setter Irish_terrier
Irish_water_spaniel Irish_wolfhound Italian_greyhound Japanese_chin Keeshond Kerry_blue_terrier Komondor Kuvasz Labrador_retriever
Lakeland_terrier Leonberger Lhasa_apso Lowchen Maltese Manchester_terrier Mastiff Miniature_schnauzer Neapolitan_mastiff Newfoundland
Norfolk_terrier Norwegian_buhund Norwegian_elkhound Norwegian_lundehund Norwich_terrier Nova_scotia_duck_tolling_retriever
Old_english_sheepdog Otterhound Papillon Parson_russell_terrier Pekingese Pembroke_welsh_corgi Petit_basset_griffon_vendeen
Pharaoh_hound Plott Pointer Pomeranian Poodle Portuguese_water_dog Saint_bernard Silky_terrier Smooth_fox_terrier Tibetan_mastiff
Welsh_springer_spaniel Wirehaired_pointing_griffon Xoloitzcuintli Yorkshire_terrier
"""
# The 133 classes of the course's dogImages, in its order: class i is the folder f"{i + 1:03d}.{BREEDS[i]}".
BREEDS = tuple(_NAMES.split())
SPLITS = ("train", "valid", "test")

# (coat, markings), red green blue. 11 coats, 7 patterns, 4 ears and 3 muzzles share no divisor, so the remainders of a breed's number
# give each of the 133 its own combination (Chinese remainder theorem), and neighbours differ in all four.
COATS = (
    ((38, 36, 40), (196, 124, 60)),
    ((236, 232, 224), (60, 52, 50)),
    ((150, 66, 32), (240, 226, 204)),
    ((122, 126, 136), (44, 44, 52)),
    ((222, 178, 102), (118, 62, 28)),
    ((84, 50, 34), (226, 190, 140)),
    ((66, 80, 108), (214, 218, 226)),
    ((240, 214, 168), (40, 34, 34)),
    ((186, 96, 44), (46, 30, 26)),
    ((166, 150, 132), (246, 242, 236)),
    ((112, 40, 34), (232, 160, 84)),
)
PATTERNS = ("plain", "patches", "mask", "blaze", "brindle", "points", "ticked")
EARS = ("pricked", "dropped", "folded", "round")
MUZZLES = ("long", "short", "bearded")
_GROUNDS = ((104, 148, 78), (150, 178, 206), (186, 164, 134), (128, 112, 104), (204, 200, 192), (92, 110, 92), (160, 98, 84))

README = """GENERATED IMAGES - NOT PHOTOGRAPHS

These {images} pictures were drawn by opml.core.sample.make_sample
(classes={classes}, train={train}, valid={valid}, test={test}, image_size={image_size}, seed={seed}).
The folder names are real breeds, numbered as in the course's dogImages; the drawings are invented and do not look like
those breeds. They exist so that everything can be tried without downloading a data set. A model trained on them knows
nothing of real dogs.
"""


@dataclass(frozen=True)
class Look:
    """What all drawings of one breed share."""

    coat: tuple[int, int, int]
    marks: tuple[int, int, int]
    pattern: str
    ears: str
    muzzle: str


def look_of(breed: int) -> Look:
    """The look of class number ``breed`` (0 to 132)."""
    coat, marks = COATS[breed % len(COATS)]
    return Look(coat, marks, PATTERNS[breed % len(PATTERNS)], EARS[breed % len(EARS)], MUZZLES[breed % len(MUZZLES)])


def folder_name(breed: int) -> str:
    """The course's folder name of class number ``breed``: ``001.Affenpinscher`` for 0."""
    return f"{breed + 1:03d}.{BREEDS[breed]}"


def make_sample(
    folder: str | Path, classes: int = 10, train: int = 24, valid: int = 8, test: int = 8, image_size: int = 96, seed: int = 0
) -> Path:
    """Draw the generated sample into ``folder``; the same arguments give the same bytes.

    Parameters
    ----------
    folder : where ``train/ valid/ test/`` and ``README.txt`` go; it must be empty or not exist.
    classes : how many breeds, the first of :data:`BREEDS` (2 to 133).
    train, valid, test : images a class.
    image_size : side of the square images, pixels.
    seed : another seed gives other dogs of the same breeds.

    Returns
    -------
    The folder.

    Raises
    ------
    BadConfig : a number is out of range, or the folder holds something already.
    """
    folder, counts = Path(folder), dict(zip(SPLITS, (train, valid, test), strict=True))
    _check(folder, classes, counts, image_size, seed)
    for split, count in counts.items():
        for breed in range(classes):
            place = folder / split / folder_name(breed)
            place.mkdir(parents=True)
            for number in range(count):
                draw_dog(breed, [seed, SPLITS.index(split), breed, number], image_size).save(
                    place / f"{BREEDS[breed]}_{number:05d}.jpg", quality=90
                )
    settings = dict(classes=classes, image_size=image_size, seed=seed, **counts)
    (folder / "README.txt").write_text(README.format(images=classes * sum(counts.values()), **settings))
    return folder


def _check(folder: Path, classes: int, counts: dict[str, int], image_size: int, seed: int) -> None:
    if not 2 <= classes <= len(BREEDS):
        raise BadConfig(f"a sample has 2 to {len(BREEDS)} classes, not {classes}")
    for split, count in counts.items():
        if count < 1:
            raise BadConfig(f"{split} needs at least 1 image a class, not {count}")
    if not 16 <= image_size <= 2048:
        raise BadConfig(f"image_size of the sample must be 16 to 2048 pixels, not {image_size}")
    if seed < 0:
        raise BadConfig(f"seed must not be negative, it is {seed}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadConfig(f"{folder} exists and is not empty: name a new folder for the sample, or delete it first")


def draw_dog(breed: int, seed: int | list[int], size: int) -> Image.Image:
    """One drawing (RGB, ``size`` x ``size`` pixels) of class number ``breed``; ``seed`` decides all that the breed does not."""
    rng, look = np.random.default_rng(seed), look_of(breed)
    pose = _Pose(rng, 2 * size)  # drawn at twice the size and reduced: smooth edges
    image = _background(rng, 2 * size)
    pen = ImageDraw.Draw(image)
    shade = rng.uniform(0.88, 1.12)  # no two dogs of a breed have quite the same coat
    coat, marks = _tint(look.coat, shade), _tint(look.marks, shade)
    body, head = _oval(0, 1.25, 0.62, 0.75), _oval(0, 0, 0.56, 0.62)
    pen.polygon(pose(body), fill=_tint(coat, 0.92))
    if look.ears == "pricked":
        _ears(pen, pose, look, coat)
    pen.polygon(pose(head), fill=coat)
    _markings(image, pose, look, marks, (body, head), rng)
    if look.ears != "pricked":  # these lie over the head
        _ears(pen, pose, look, coat)
    _face(pen, pose, look, coat, marks)
    return _photograph(image.resize((size, size), Image.Resampling.BOX), rng)


class _Pose:
    """Puts points of the dog (x right, y down, head about 1 wide around 0, 0) onto the canvas, as polygon corners."""

    def __init__(self, rng: np.random.Generator, side: int):
        angle, scale = rng.uniform(-0.3, 0.3), side * rng.uniform(0.34, 0.48)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        flip = np.diag([rng.choice([-1.0, 1.0]) * rng.uniform(0.85, 1.0), 1.0])
        self.matrix = scale * flip @ turn
        self.centre = side * np.array([0.5 + rng.uniform(-0.1, 0.1), 0.44 + rng.uniform(-0.08, 0.08)])

    def __call__(self, points: np.ndarray) -> list[tuple[float, float]]:
        return [(float(x), float(y)) for x, y in points @ self.matrix + self.centre]


def _oval(x: float, y: float, rx: float, ry: float) -> np.ndarray:
    turn = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    return np.stack([x + rx * np.cos(turn), y + ry * np.sin(turn)], axis=1)


def _tint(colour: tuple[int, int, int], factor: float) -> tuple[int, int, int]:
    return tuple(int(min(255, channel * factor)) for channel in colour)


def _background(rng: np.random.Generator, side: int) -> Image.Image:
    """Ground below, wall or sky above, and a few things that are no dog."""
    above, below = (_tint(_GROUNDS[i], rng.uniform(0.7, 1.2)) for i in rng.integers(len(_GROUNDS), size=2))
    image = Image.new("RGB", (side, side), above)
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, side * rng.uniform(0.45, 0.8), side, side), fill=below)
    for _ in range(rng.integers(2, 6)):
        x, y = rng.uniform(0, side, 2)
        rx, ry = rng.uniform(0.03, 0.16, 2) * side
        pen.ellipse((x - rx, y - ry, x + rx, y + ry), fill=tuple(int(c) for c in rng.integers(40, 220, 3)))
    return image


def _ears(pen: ImageDraw.ImageDraw, pose: _Pose, look: Look, coat: tuple[int, int, int]) -> None:
    shapes = {
        "pricked": np.array([(0.12, -0.45), (0.5, -1.0), (0.56, -0.2)]),
        "dropped": _oval(0.58, 0.18, 0.17, 0.52),
        "folded": np.array([(0.18, -0.6), (0.52, -0.5), (0.72, -0.05), (0.4, -0.12)]),
        "round": _oval(0.46, -0.5, 0.24, 0.24),
    }
    for side in (-1, 1):
        pen.polygon(pose(shapes[look.ears] * (side, 1)), fill=_tint(coat, 0.72))


def _markings(image: Image.Image, pose: _Pose, look: Look, marks: tuple, within: tuple, rng: np.random.Generator) -> None:
    """Paint the breed's pattern, only where there is dog."""
    dog, mask = Image.new("1", image.size), Image.new("1", image.size)
    for part in within:
        ImageDraw.Draw(dog).polygon(pose(part), fill=1)
    pen = ImageDraw.Draw(mask)
    for shape in _shapes(look.pattern, rng):
        pen.polygon(pose(shape), fill=1)
    image.paste(marks, mask=Image.fromarray(np.asarray(dog) & np.asarray(mask)))


def _shapes(pattern: str, rng: np.random.Generator) -> list[np.ndarray]:
    """The polygons of a pattern; those of patches, brindle and ticking fall differently on each dog."""
    if pattern == "patches":
        places = rng.uniform((-0.5, -0.5, 0.14, 0.14), (0.5, 1.3, 0.26, 0.26), (9, 4))
        return [_oval(*place) for place in places]
    if pattern == "ticked":
        places = rng.uniform((-0.6, -0.6), (0.6, 1.4), (70, 2))
        return [_oval(x, y, 0.045, 0.045) for x, y in places]
    if pattern == "brindle":
        heights = np.arange(-0.7, 1.5, 0.2) + rng.uniform(-0.04, 0.04, 11)
        return [np.array([(-0.8, y), (0, y + 0.12), (0.8, y), (0.8, y + 0.08), (0, y + 0.2), (-0.8, y + 0.08)]) for y in heights]
    return {
        "plain": [],
        "mask": [_oval(0, 0.32, 0.6, 0.42)],
        "blaze": [np.array([(-0.1, -0.7), (0.1, -0.7), (0.2, 0.7), (-0.2, 0.7)]), _oval(0, 1.1, 0.3, 0.5)],
        "points": [_oval(-0.24, -0.26, 0.11, 0.08), _oval(0.24, -0.26, 0.11, 0.08), _oval(0, 0.4, 0.36, 0.26), _oval(0, 1.0, 0.36, 0.2)],
    }[pattern]


def _face(pen: ImageDraw.ImageDraw, pose: _Pose, look: Look, coat: tuple, marks: tuple) -> None:
    width, height = {"long": (0.2, 0.42), "short": (0.34, 0.2), "bearded": (0.32, 0.4)}[look.muzzle]
    pen.polygon(pose(_oval(0, 0.34, width, height)), fill=_tint(marks if look.muzzle == "bearded" else coat, 1.15))
    nose = 0.34 + height * 0.35
    pen.polygon(pose(_oval(0, nose, 0.11, 0.08)), fill=(24, 20, 20))
    for side in (-1, 1):
        pen.polygon(pose(_oval(side * 0.23, -0.1, 0.085, 0.085)), fill=(250, 244, 230))
        pen.polygon(pose(_oval(side * 0.23, -0.09, 0.055, 0.065)), fill=(30, 22, 18))


def _photograph(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Light (strength, warmth, from one side) and the noise of a sensor."""
    side = image.width
    pixels = np.asarray(image, dtype=np.float64)
    slope = np.linspace(-1, 1, side)[None, :, None] * rng.uniform(-0.18, 0.18)
    pixels = pixels * rng.uniform(0.75, 1.2) * (1 + slope) * rng.uniform(0.93, 1.07, 3)
    pixels += rng.normal(0, rng.uniform(2, 8), pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
