"""The runner, tried on small notebooks that each misbehave in one way."""

import json
from datetime import datetime

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from opml import rehearsal
from opml.errors import BadInput, Interrupted, NotebookFailed

PARAMETERS = new_code_cell('target: str = "local"  # where\nrun_id: str = "first"  # who', metadata={"tags": ["parameters"]})
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}


@pytest.fixture
def notebooks(tmp_path, monkeypatch):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    monkeypatch.setattr(rehearsal, "NOTEBOOKS", folder)

    def write(name, *cells):
        path = folder / f"{name}.ipynb"
        nbformat.write(new_notebook(cells=[PARAMETERS, *map(new_code_cell, cells)], metadata=KERNEL), path)
        return path

    return write


def test_parameters_reach_the_notebook_and_pages_are_written(notebooks, tmp_path):
    outcome = rehearsal.execute(notebooks("01_fine", "print('hello', run_id)"), tmp_path, {"run_id": "spring", "keep": True})
    assert outcome.error == ""
    assert "hello spring" in (tmp_path / "01_fine.html").read_text()


def test_the_failing_cell_is_named_and_later_cells_do_not_run(notebooks, tmp_path):
    path = notebooks("01_fails", "1 / 0", "print('never')")
    outcome = rehearsal.execute(path, tmp_path, {})
    assert outcome.error == "cell 2: ZeroDivisionError: division by zero"
    assert "never" not in str([c.get("outputs") for c in nbformat.read(tmp_path / path.name, as_version=4).cells])


def test_an_error_shown_by_rich_tracebacks_is_not_lost(notebooks, tmp_path):  # as `import sagemaker` installs them
    path = notebooks("01_rich", "from rich import traceback\ntraceback.install()", "raise KeyError('lost')")
    assert rehearsal.execute(path, tmp_path, {}).error == "cell 3: KeyError: 'lost'"


def test_a_kernel_that_dies_is_a_failure_of_its_cell(notebooks, tmp_path):
    path = notebooks("01_dies", "import os\nos._exit(7)")
    assert "cell 2" in rehearsal.execute(path, tmp_path, {}).error


def test_a_name_that_no_notebook_declares_is_refused(notebooks):
    with pytest.raises(BadInput, match="no notebook has a parameter 'epoch'; there are: run_id, target"):
        rehearsal.check_parameters([notebooks("01_fine")], {"epoch": 3})


@pytest.mark.parametrize(
    ("given", "said"),
    [({"run_id": "x"}, "say --run_id x"), ({"epochs": "many"}, "type int, not 'many'"), ({"epochs": True}, "type int"), ({"data": 3}, "type str")],
)
def test_a_parameter_of_another_type_is_refused(notebooks, given, said):
    path = notebooks("01_fine")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[0].source += '\nepochs: int = 8  # passes\ndata: str = ""  # a folder'
    nbformat.write(notebook, path)
    with pytest.raises(BadInput, match=said):
        rehearsal.check_parameters([path], given)


def test_a_data_folder_is_looked_at_from_where_the_user_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match="dogs is no folder"):
        rehearsal.data_folder("dogs")
    for split in ("train", "valid"):
        (tmp_path / "dogs" / split).mkdir(parents=True)
    with pytest.raises(BadInput, match="dogs/test is no folder"):
        rehearsal.data_folder("dogs")
    (tmp_path / "dogs/test").mkdir()
    assert rehearsal.data_folder("dogs") == tmp_path / "dogs"


def test_records_that_cannot_be_written_are_a_sentence(tmp_path):
    (tmp_path / "file").touch()
    for out in ("file", "file/below"):
        with pytest.raises(BadInput, match="Name another"):
            rehearsal.new_folder(tmp_path / out, datetime.now())


def test_an_interrupted_run_on_aws_says_how_to_take_it_down(tmp_path):
    stopped = rehearsal.Outcome("01_x", 1.0, 3, "cell 2: interrupted", interrupted=True)
    with pytest.raises(Interrupted, match="01_x, cell 2; take it down: python -m opml teardown --target aws --run_id r1"):
        rehearsal.report(rehearsal.Summary("r1", "aws", "now", notebooks=[stopped]), tmp_path, commit=False)


def test_a_notebook_that_does_not_exist_is_refused_with_the_names_that_do(notebooks):
    notebooks("01_fine"), notebooks("02_other")
    assert [path.stem for path in rehearsal.select(["02"])] == ["02_other"]
    with pytest.raises(BadInput, match="'7'; there are: 01_fine, 02_other"):
        rehearsal.select(["7"])


def test_latest_points_to_the_newest_record(tmp_path):
    now = datetime.now()
    first, second = rehearsal.new_folder(tmp_path, now), rehearsal.new_folder(tmp_path, now)
    assert first != second and (tmp_path / "latest").resolve() == second


def test_a_failure_is_reported_with_the_notebook_and_the_cell(tmp_path):
    summary = rehearsal.Summary("r1", "local", "now", notebooks=[rehearsal.Outcome("01_x", 1.0, 3, "cell 2: KeyError: 'a'")])
    with pytest.raises(NotebookFailed, match="01_x failed in cell 2: KeyError: 'a'"):
        rehearsal.report(summary, tmp_path, commit=False)


def test_the_index_shows_errors_as_text_not_as_markup():
    summary = rehearsal.Summary("r1", "local", "now", notebooks=[rehearsal.Outcome("01_x", 1.0, 3, "cell 2: <script>")])
    assert "&lt;script&gt;" in rehearsal.index_page(summary)


@pytest.mark.parametrize(("text", "value"), [("3", 3), ("True", True), ("1e-3", 0.001), ("ml.m5.large", "ml.m5.large"), ("", "")])
def test_parameter_values_are_read_as_python_would(text, value):
    assert rehearsal.literal(text) == value
    assert json.dumps(rehearsal.literal(text)) == json.dumps(value)
