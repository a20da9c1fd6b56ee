"""opml.core.config: one source of flags, hyper-parameters and defaults."""

import pytest

from opml.core.config import BadConfig, TrainConfig, report_failure


def flags(settings: dict) -> list[str]:
    """As SageMaker's toolkit passes hyper-parameters: sorted, and all as strings."""
    return [word for name in sorted(settings) for word in (f"--{name}", str(settings[name]))]


def test_hyperparameters_come_back_as_the_same_settings():
    config = TrainConfig(arch="resnet34", epochs=2, learning_rate=0.003, augment=False, seed=7)
    assert TrainConfig.from_args(flags(config.hyperparameters())) == config


@pytest.mark.parametrize("word, value", [("True", True), ("False", False), ("false", False), ("1", True)])
def test_a_boolean_arrives_as_a_word(word, value):
    assert TrainConfig.from_args(["--augment", word]).augment is value


@pytest.mark.parametrize(
    "bad, said",
    [
        (["--batch_size", "0"], "batch_size must be at least 1, not 0"),
        (["--batch_size", "many"], "'many'"),
        (["--arch", "vgg16"], "unknown arch 'vgg16': choose one of resnet18, resnet34, resnet50"),
        (["--learning_rate", "nan"], "learning_rate must be a number above 0, not nan"),
        (["--weight_decay", "nan"], "weight_decay must be 0 or above, not nan"),
        (["--image_size", "5000"], "at most 896 pixels, not 5000"),
        (["--augment", "perhaps"], "'perhaps' is neither True nor False"),
        (["--no_such_flag", "1"], "--no_such_flag"),
    ],
)
def test_a_bad_flag_ends_with_one_sentence_and_exit_code_2(bad, said, capsys):
    with pytest.raises(SystemExit) as ended:
        TrainConfig.from_args(bad)
    printed = capsys.readouterr().err
    assert ended.value.code == 2
    assert said in printed and printed.count("\n") == 1


def test_a_flag_beats_a_constant_and_a_constant_beats_the_container(monkeypatch):
    monkeypatch.setenv("SM_MODEL_DIR", "from-container")
    assert TrainConfig.from_args([]).model_dir == "from-container"
    assert TrainConfig.from_args([], defaults={"model_dir": "constant"}).model_dir == "constant"
    assert TrainConfig.from_args(["--model_dir", "flag"], defaults={"model_dir": "constant"}).model_dir == "flag"


@pytest.mark.parametrize(
    "constant, said",
    [({"epochs": 0}, "at least 1, not 0"), ({"epochs": 2.5}, "epochs must be a whole number, not 2.5"), ({"lr": 1}, "unknown setting lr")],
)
def test_a_constant_is_checked_like_a_flag(constant, said, capsys):
    with pytest.raises(SystemExit) as ended:
        TrainConfig.from_args([], defaults=constant)
    assert ended.value.code == 2 and said in capsys.readouterr().err


def test_the_failure_file_holds_the_sentence_where_sagemaker_looks(monkeypatch, tmp_path):
    monkeypatch.setenv("SM_OUTPUT_DIR", str(tmp_path))
    with pytest.raises(SystemExit):
        TrainConfig.from_args(["--epochs", "0"])
    assert (tmp_path / "failure").read_text() == "epochs must be at least 1, not 0"


def test_the_failure_file_keeps_the_first_1024_characters(monkeypatch, tmp_path):
    monkeypatch.setenv("SM_OUTPUT_DIR", str(tmp_path))
    report_failure("best sentence first." + "x" * 5000)
    text = (tmp_path / "failure").read_text()
    assert text.startswith("best sentence first.") and len(text) == 1024


def test_a_copy_is_checked_too():
    with pytest.raises(BadConfig, match="seed must be 0 or above, not -1"):
        TrainConfig().replace(seed=-1)


@pytest.mark.parametrize("setting", [{"seed": 2**63}, {"workers": 100_000}])
def test_what_no_machine_can_take_is_refused(setting):
    with pytest.raises(BadConfig, match="must be at most"):
        TrainConfig(**setting)
