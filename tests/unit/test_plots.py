import io

import matplotlib
import pandas as pd
import pytest
from PIL import Image

matplotlib.use("Agg")

from opml import plots  # noqa: E402
from opml.errors import BadInput  # noqa: E402

HISTORY = pd.DataFrame(
    [("train:loss", 0.9, 1), ("train:loss", 0.5, 2), ("validation:loss", 1.0, 1), ("validation:loss", 0.7, 2), ("test:loss", 0.7, 2)],
    columns=["metric", "value", "epoch"],
)
PREDICTIONS = [{"breed": "Afghan_hound", "probability": 0.9}, {"breed": "Akita", "probability": 0.1}]


@pytest.fixture(autouse=True)
def closed():
    yield
    matplotlib.pyplot.close("all")


def check(axes):
    """Labelled, of the one width, and small enough to commit."""
    buffer = io.BytesIO()
    axes.figure.savefig(buffer, format="png")
    assert axes.figure.get_figwidth() == plots.WIDTH and len(buffer.getvalue()) < 100_000
    return axes


@pytest.mark.parametrize(
    "draw, x, y",
    [
        (lambda: plots.learning_curves(HISTORY), "epoch", "nats"),
        (lambda: plots.target_tracking(600), "per minute", "instances"),
        (lambda: plots.throttling(20, 0.3, 7), "at one time", "429"),
    ],
)
def test_axes_are_labelled_with_units(draw, x, y):
    axes = check(draw())
    assert x in axes.get_xlabel() and y in axes.get_ylabel()


def test_curves_show_training_and_validation_not_test():
    names = {text.get_text().strip() for text in plots.learning_curves(HISTORY).texts}
    assert names == {"train:loss", "validation:loss"}


def test_a_history_without_the_kind_is_refused():
    with pytest.raises(BadInput, match="no accuracy"):
        plots.learning_curves(HISTORY, "accuracy")


def test_bars_carry_their_numbers_largest_on_top():
    axes = check(plots.breed_bars(PREDICTIONS))
    assert [bar.get_width() for bar in axes.patches] == [0.1, 0.9]
    assert [text.get_text().strip() for text in axes.texts] == ["0.10", "0.90"]


def test_the_grid_names_each_breed(tmp_path):
    for breed in ("001.Affenpinscher", "002.Afghan_hound"):
        (tmp_path / "train" / breed).mkdir(parents=True)
        Image.new("RGB", (40, 30), "brown").save(tmp_path / "train" / breed / "1.jpg")
    axes = check(plots.sample_grid(tmp_path))
    assert [text.get_text() for text in axes.texts] == ["Affenpinscher", "Afghan hound"]


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(BadInput, match="no images"):
        plots.sample_grid(tmp_path)


def test_the_refused_share_in_the_figure_is_erlangs():
    texts = [text.get_text() for text in plots.throttling(20, 0.3, 7).texts]
    assert any("18.5% refused" in text for text in texts)
