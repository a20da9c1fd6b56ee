"""The record of a rehearsal under ``runs/<time>/``: a summary for machines, pages for people."""

import html
import json
import os
import platform
from dataclasses import asdict, dataclass, field
from datetime import datetime
from importlib import metadata
from pathlib import Path

import opml
from opml.errors import BadInput

REPORTED = ("torch", "torchvision", "sagemaker", "boto3", "moto", "smdebug", "numpy", "papermill", "jupyterlab")


@dataclass
class Outcome:
    """What became of one notebook; ``seconds`` of wall clock, ``error`` empty if it ran to its end."""

    notebook: str
    seconds: float = 0.0
    cells: int = 0
    error: str = ""
    interrupted: bool = False


@dataclass
class Summary:
    """The record of a rehearsal, written to ``summary.json``."""

    run_id: str
    target: str
    started: str
    seconds: float = 0.0
    notebooks: list[Outcome] = field(default_factory=list)
    accuracy: float | None = None  # test accuracy of the rehearsed model: the newest training job called "train"
    accuracy_by_job: dict[str, float] = field(default_factory=dict)  # the same of every training job, short trials of tuning too
    resources_left: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> list[Outcome]:
        """The notebooks that did not run to their end."""
        return [outcome for outcome in self.notebooks if outcome.error]

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C, a signal or the end of the parent ended it."""
        return any(outcome.interrupted for outcome in self.notebooks)


def new_folder(out: Path, started: datetime) -> Path:
    """``out/<time>``, also when two rehearsals start in the same second; ``out/latest`` points there."""
    for attempt in range(100):
        folder = out / f"{started:%Y-%m-%d_%H-%M-%S}{f'_{attempt}' if attempt else ''}"
        try:
            folder.mkdir(parents=True)
            break
        except FileExistsError as error:
            if not folder.is_dir():
                raise BadInput(f"no record can be written to {out}: it is no folder. Name another with --out") from error
        except OSError as error:
            raise BadInput(f"no record can be written to {out}: {error.strerror}. Name another folder with --out") from error
    pointer = out / f".latest-{os.getpid()}"
    pointer.symlink_to(folder.name)
    pointer.replace(out / "latest")
    return folder


def write_record(summary: Summary, folder: Path) -> None:
    """``summary.json`` for machines, ``index.html`` for people, each whole or not at all."""
    for name, text in (("summary.json", json.dumps(asdict(summary), indent=2) + "\n"), ("index.html", index_page(summary))):
        new = folder / f".{name}.new"
        new.write_text(text)
        new.replace(folder / name)


def accuracies(aws) -> dict[str, float]:
    """Test accuracy of each training job of the run that reported one, by job name."""
    client, found = aws.client("sagemaker"), {}
    for page in client.get_paginator("list_training_jobs").paginate(NameContains=aws.name("")):
        for job in page["TrainingJobSummaries"]:
            described = client.describe_training_job(TrainingJobName=job["TrainingJobName"])
            for metric in described.get("FinalMetricDataList", []):
                if metric["MetricName"] == "test:accuracy":
                    found[job["TrainingJobName"]] = round(metric["Value"], 4)
    return found


def versions() -> dict[str, str]:
    """The versions that a result may depend on."""
    return {"python": platform.python_version(), "opml": opml.__version__, **{name: metadata.version(name) for name in REPORTED}}


def write_page(notebook: Path) -> None:
    """The executed notebook as one HTML file beside it, readable without Jupyter."""
    from nbconvert import HTMLExporter

    if notebook.exists():
        notebook.with_suffix(".html").write_text(HTMLExporter().from_filename(str(notebook))[0])


def index_page(summary: Summary) -> str:
    """One page with links to all notebooks and the summary's figures."""
    rows = "".join(
        f"<tr><td><a href='{o.notebook}.html'>{o.notebook}</a></td><td>{o.seconds:.0f}</td><td>{o.cells}</td>"
        f"<td>{html.escape(o.error) or 'ran to its end'}</td></tr>"
        for o in summary.notebooks
    )
    facts = "".join(f"<li>Test accuracy of {html.escape(name)}: {value:.3f}</li>" for name, value in summary.accuracy_by_job.items())
    left = "".join(f"<li>{html.escape(text)}</li>" for text in summary.resources_left) or "<li>nothing</li>"
    used = ", ".join(f"{name} {version}" for name, version in summary.versions.items())
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>opml rehearsal {summary.run_id}</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:56em;margin:2em auto;padding:0 1em}}
td,th{{padding:.2em 1em .2em 0;text-align:left}}</style>
<h1>Rehearsal {summary.run_id}</h1>
<p>Started {summary.started}, target <b>{summary.target}</b>, {summary.seconds:.0f} seconds. <a href="summary.json">summary.json</a></p>
<table><tr><th>Notebook</th><th>Seconds</th><th>Cells</th><th>Result</th></tr>{rows}</table>
<ul>{facts}</ul><h2>Resources left</h2><ul>{left}</ul><h2>Versions</h2><p>{used}</p></html>
"""
