"""Five sick training jobs, five rules: each is caught by its rule, and in the healthy job none fires."""

import json

import pytest

from opml.core.config import TrainConfig
from opml.core.rules import COURSE_RULES
from opml.core.sample import make_sample
from opml.core.sick import RECIPES
from opml.core.train import fit


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    """The rehearsal's job on small images: 10 classes, 8 epochs."""
    place = tmp_path_factory.mktemp("healthy")
    make_sample(place / "data", image_size=48)
    folders = {"data": str(place / "data"), "model_dir": str(place / "model"), "output_dir": str(place / "output")}
    return TrainConfig(**folders, weights="none", image_size=48, epochs=8, batch_size=16, learning_rate=1e-3)


def fired(config):
    """Train; the rules that fired, with their steps."""
    fit(config)
    with open(f"{config.output_dir}/findings.json") as file:
        return {row["rule"]: row["step"] for row in json.load(file) if row["status"] == "IssuesFound"}


def test_there_is_a_recipe_for_each_of_the_courses_rules():
    assert sorted(recipe.rule for recipe in RECIPES.values()) == sorted(COURSE_RULES)


def test_no_rule_of_the_course_fires_in_the_healthy_job(healthy):
    assert fired(healthy).keys().isdisjoint(COURSE_RULES)


def ill(name, healthy, place):
    """The settings of an ill job with folders, and maybe data, of its own."""
    recipe = RECIPES[name]
    data = recipe.data(place / "data") or healthy.data
    return recipe.config(healthy, data=str(data), model_dir=str(place / "model"), output_dir=str(place / "output"))


@pytest.mark.parametrize("name", RECIPES)
def test_a_sick_job_is_caught_by_its_rule(healthy, tmp_path, name):
    assert RECIPES[name].rule in fired(ill(name, healthy, tmp_path))


def test_a_job_that_a_rule_stops_keeps_its_best_model_and_says_why(healthy, tmp_path, capsys):
    config = ill("overfit", healthy, tmp_path).replace(on_finding="stop")
    assert fired(config)
    with open(f"{config.output_dir}/metrics.json") as file:
        epochs = len(json.load(file)["history"])
    assert epochs < config.epochs and (tmp_path / "model" / "model.pth").exists()
    assert "stopped in epoch" in capsys.readouterr().out
