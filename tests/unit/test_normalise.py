"""Committed notebooks do not tell on which machine, or when, they were run."""

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook, new_output

from opml.normalise import normalise, scrub


def executed(*outputs, **cell):
    return new_notebook(cells=[new_code_cell("x", outputs=list(outputs), **cell)])


def test_what_names_the_machine_is_scrubbed():
    text = scrub(f"{Path.home()}/a, <object at 0x7f12ab34cd>, http://127.0.0.1:40123/b, \x1b[31mred\x1b[0m")
    assert text == "~/a, <object at 0x...>, http://127.0.0.1:<port>/b, red"


def test_the_moment_of_the_run_is_scrubbed():
    text = "job opml-first-train-2026-11-21-03-25-47-693, 2026-11-21 03:25:48 Starting; 96 images/s, about 19 s left; done in 16.7 s"
    assert scrub(text) == "job opml-first-train-<time>, <time> Starting; <rate>; done in <n> s"


def test_a_price_keeps_its_date():
    assert scrub("0.115 USD/hour (prices of 2026-09-24)") == "0.115 USD/hour (prices of 2026-09-24)"


def test_a_progress_bar_keeps_its_last_state_only():
    assert scrub("10%\r50%\r100%\ndone") == "100%\ndone"


def test_injected_parameters_and_counts_are_dropped():
    notebook = executed(new_output("stream", text="a"), execution_count=7)
    notebook.cells.insert(0, new_code_cell("run_id = 'r1'", metadata={"tags": ["injected-parameters"]}))
    cells = normalise(notebook).cells
    assert [(cell.source, cell.execution_count) for cell in cells] == [("x", None)]


def test_the_parameters_tag_survives():
    notebook = executed(metadata={"tags": ["parameters"], "papermill": {"duration": 3}})
    assert normalise(notebook).cells[0].metadata == {"tags": ["parameters"]}


def test_pieces_of_a_stream_are_joined():
    notebook = executed(new_output("stream", text="a\n"), new_output("stream", text="b\n"))
    assert [output.text for output in normalise(notebook).cells[0].outputs] == ["a\nb\n"]


def test_normalising_twice_changes_nothing_more():
    notebook = normalise(executed(new_output("stream", text=f"{Path.home()} 0x123456789")))
    assert nbformat.writes(normalise(notebook)) == nbformat.writes(notebook)
