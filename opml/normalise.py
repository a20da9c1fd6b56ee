"""Executed notebooks made fit to commit: the same run gives the same file on any machine (as far as its numbers allow)."""

import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from opml.errors import OpmlError

HOME = str(Path.home())
NOISE = (
    (re.compile(re.escape(str(Path(__file__).parent.parent))), "."),
    (re.compile(re.escape(HOME)), "~"),
    (re.compile(r"/(?:tmp|var/folders)/[\w./-]+"), "<temporary folder>"),
    (re.compile(r"\b0x[0-9a-f]{6,}\b"), "0x..."),
    (re.compile(r"\b127\.0\.0\.1:\d+"), "127.0.0.1:<port>"),
    (re.compile(r"\x1b\[[0-9;]*m"), ""),
    (re.compile(r"\b\d{4}-\d\d-\d\d[- ]\d\d[-:]\d\d[-:]\d\d(?:-\d{3})?\b"), "<time>"),
    (re.compile(r"\bsagemaker-[a-z0-9-]+-\d{12}\b"), "<bucket>"),
    (re.compile(r"(?<=ExecutionRole-)\d{8}T\d{6}"), "<time>"),
    (re.compile(r"\d+ images/s, about \d+ s left"), "<rate>"),
    (re.compile(r"((?:Training|Billable) seconds:|done in) [\d.]+"), r"\1 <n>"),
)


def commit_outputs(executed: Path, notebooks: Path) -> None:
    """Write each executed notebook's outputs back over its source, normalised; a notebook with an error is refused."""
    for path in sorted(executed.glob("*.ipynb")):
        notebook = normalise(nbformat.read(path, as_version=4))
        if any(output.output_type == "error" for cell in notebook.cells for output in cell.get("outputs", [])):
            raise OpmlError(f"{path.name} holds an error output; only notebooks that ran to their end are committed")
        nbformat.write(notebook, notebooks / path.name)


def normalise(notebook: NotebookNode) -> NotebookNode:
    """Drop counts, timings, injected parameters and what names this machine; keep cells, tags and outputs."""
    notebook.cells = [plain(cell) for cell in notebook.cells if not injected(cell)]
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
    return notebook


def injected(cell: NotebookNode) -> bool:
    """Was this cell put in by papermill?"""
    return bool({"injected-parameters", "papermill-error-cell-tag"} & set(cell.metadata.get("tags", [])))


def plain(cell: NotebookNode) -> NotebookNode:
    """One cell without the traces of its run."""
    cell.metadata = nbformat.from_dict({"tags": cell.metadata.tags} if cell.metadata.get("tags") else {})
    if cell.cell_type == "code":
        cell.execution_count = None
        cell.outputs = [quiet(output) for output in merged(cell.outputs)]
    return cell


def merged(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Neighbouring pieces of one stream joined: how they were cut depends on timing only."""
    joined: list[NotebookNode] = []
    for output in outputs:
        last = joined[-1] if joined else None
        if last and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            joined.append(output)
    return joined


def quiet(output: NotebookNode) -> NotebookNode:
    """One output without counts, paths, addresses and ports."""
    if "execution_count" in output:
        output.execution_count = None
    if "text" in output:
        output.text = scrub(output.text)
    for kind, data in output.get("data", {}).items():
        if kind.startswith("text/") and isinstance(data, str):
            output.data[kind] = scrub(data)
    if "metadata" in output:
        output.metadata = nbformat.from_dict({})
    return output


def scrub(text: str) -> str:
    """The text without what names this machine or this moment; a line rewritten by a progress bar keeps its last state."""
    text = re.sub(r"[^\n]*\r(?!\n)", "", text)
    for pattern, instead in NOISE:
        text = pattern.sub(instead, text)
    return text
