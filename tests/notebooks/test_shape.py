"""The countable rules of docs/notebooks.md, asserted on the committed notebooks."""

import ast
import json
import re
import statistics
from pathlib import Path

import nbformat
import pytest

PATHS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
NAMES = ["01_train_and_deploy", "02_ec2_training", "03_endpoint_and_lambda", "04_security", "05_concurrency_and_scaling"]
CONTROL_ROOMS = {"aws", "costs", "ec2", "estimators", "functions", "plots", "resources", "rules", "scaling", "security"}
CARGO = {"opml.core.config", "opml.core.metrics", "opml.core.sample"}


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def parameters(notebook):
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    return cell


def test_there_are_the_five_notebooks():
    assert [path.stem for path in PATHS] == NAMES


def test_a_notebook_has_25_to_45_cells(notebook):
    assert 25 <= len(notebook.cells) <= 45


def test_code_cells_are_short(notebook):
    lines = sorted(len(cell.source.splitlines()) for cell in code(notebook))
    assert statistics.median(lines) <= 4 and max(lines) <= 20
    assert lines[int(0.9 * (len(lines) - 1))] <= 12


def test_prose_stands_before_each_code_cell_after_the_opening(notebook):
    kinds = [cell.cell_type for cell in notebook.cells]
    assert kinds[:5] == ["markdown", "markdown", "code", "code", "code"]
    assert all(before == "markdown" for before, kind in zip(kinds[4:], kinds[5:], strict=False) if kind == "code")


def test_parameters_are_annotated_commented_literals(notebook):
    source = parameters(notebook).source
    for line, node in zip(source.splitlines(), ast.parse(source).body, strict=True):
        assert isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Constant) and "  # " in line
    assert {"target", "run_id", "keep"} <= {node.target.id for node in ast.parse(source).body}


def test_no_cell_asks_where_it_runs(notebook):
    for node in ast.walk(ast.parse("\n".join(cell.source for cell in code(notebook)))):
        if isinstance(node, ast.If | ast.IfExp | ast.Match):
            asked = ast.unparse(node.test if hasattr(node, "test") else node.subject)
            assert "target" not in asked and "AWS_ENDPOINT" not in asked, asked


def test_nothing_interactive_and_no_shell(notebook):
    source = "\n".join(cell.source for cell in code(notebook))
    assert not re.search(r"^\s*[!%]|\binput\(|getpass|get_ipython", source, re.M)


def test_functions_are_short_and_there_is_no_class(notebook):
    for node in ast.walk(ast.parse("\n".join(cell.source for cell in code(notebook)))):
        assert not isinstance(node, ast.ClassDef)
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 8


def test_only_control_rooms_are_imported(notebook):
    for node in ast.walk(ast.parse("\n".join(cell.source for cell in code(notebook)))):
        if isinstance(node, ast.ImportFrom) and node.module == "opml":
            assert {alias.name for alias in node.names} <= CONTROL_ROOMS
        elif isinstance(node, ast.ImportFrom) and node.module.startswith("opml"):
            assert node.module in CARGO or node.module.removeprefix("opml.") in CONTROL_ROOMS


def test_the_last_code_cell_is_the_teardown(notebook):
    assert code(notebook)[-1].source == "resources.teardown(aws, keep=keep)"


def test_a_decision_is_short_and_says_what_would_change_it(notebook):
    decisions = [p for cell in notebook.cells if cell.cell_type == "markdown" for p in cell.source.split("\n\n") if p.startswith("**Decision")]
    assert decisions
    for text in decisions:
        assert len(text.split()) <= 80 and "Evidence" in text and "change our mind" in text, text


def test_it_shows_the_tempting_wrong_way(notebook):
    assert any(word in cell.source.lower() for cell in notebook.cells for word in ("tempting", "the number that lies"))


def test_outputs_are_from_a_run_without_error(notebook):
    shown = [cell for cell in code(notebook) if cell.outputs]
    assert len(shown) / len(code(notebook)) >= 0.6
    assert not [output for cell in shown for output in cell.outputs if output.output_type == "error"]


def test_outputs_are_normalised(notebook):
    text = json.dumps([cell.get("outputs") for cell in notebook.cells])
    assert not re.search(r"/(?:tmp|root|home|Users)/\w|127\.0\.0\.1:\d|\b0x[0-9a-f]{6}", text)
    assert all(cell.execution_count is None for cell in code(notebook))


def test_figures_are_small(notebook):
    images = [output.data["image/png"] for cell in code(notebook) for output in cell.outputs if "image/png" in output.get("data", {})]
    assert all(len(image) * 3 / 4 <= 100_000 for image in images)
