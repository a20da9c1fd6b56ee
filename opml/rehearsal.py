"""Run the notebooks in order, headless, and leave a record: executed notebooks, pages to read, a summary.

``python -m opml rehearse`` is the user's door. The runner is papermill; what is added here is the order, the check of parameter names,
progress, the record under ``runs/<time>/`` and the last word: what is left running.
"""

import argparse
import html
import json
import os
import platform
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from importlib import metadata
from pathlib import Path

import opml
from opml.errors import BadInput, Interrupted, NotebookFailed, OpmlError

ROOT = Path(opml.__file__).parent.parent
NOTEBOOKS = ROOT / "notebooks"
REPORTED = ("torch", "torchvision", "sagemaker", "boto3", "moto", "smdebug", "numpy", "papermill", "jupyterlab")
LONGEST_FOLDER = 95  # characters; the kernel allows 103 (macOS) for a socket in it
OWN_FLAGS = ("run_id", "target", "keep")  # parameters that the rehearsal itself sets


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
    accuracy: dict[str, float] = field(default_factory=dict)  # test accuracy by training job
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``python -m opml rehearse``."""
    parser.add_argument("only", nargs="*", help="notebooks to run, by number or name (default: all, in order)")
    parser.add_argument("--target", choices=("local", "aws"), default="local", help="where the notebooks run (aws costs money)")
    parser.add_argument("--run_id", help="name of this run in all resources and tags (default: made from the time)")
    parser.add_argument(
        "-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="set a notebook parameter"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "runs", help="folder for the records (default: runs)")
    parser.add_argument("--keep", action="store_true", help="leave the resources of the last notebook too (aws: they go on billing)")
    parser.add_argument("--commit", action="store_true", help="write the normalised outputs back into notebooks/ (see docs/notebooks.md)")


def run(args: argparse.Namespace) -> int:
    """Rehearse as the flags say; returns the exit status."""
    from opml.aws import connect, world_of_its_own

    started = datetime.now()
    paths = select(args.only)
    given = {name: literal(value) for name, value in args.parameter}
    check_parameters(paths, given)
    run_id = args.run_id or ("first" if args.commit else f"r{started:%m%d%H%M%S}")
    summary = Summary(run_id, args.target, started.isoformat(timespec="seconds"), versions=versions())
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    parameters = {"target": args.target, "run_id": summary.run_id, **given}
    with stopped_with_parent(), world_of_its_own(args.target):
        connect(args.target, summary.run_id)  # a bad run_id or missing credentials: before there is a record
        folder = new_folder(args.out, started)
        rehearse(paths, folder, parameters, summary, keep=args.keep)
        conclude(summary, folder, keep=args.keep, since=started)
    return report(summary, folder, commit=args.commit)


def rehearse(paths: list[Path], folder: Path, parameters: dict, summary: Summary, *, keep: bool) -> None:
    """The notebooks in order until one fails or is interrupted; the record is written before and after each, lest kill -9 take it."""
    write_record(summary, folder)
    for path in paths:
        outcome = execute(path, folder, {**parameters, "keep": keep or path != paths[-1]})
        summary.notebooks.append(outcome)
        write_record(summary, folder)
        if outcome.error:
            return


def select(names: list[str]) -> list[Path]:
    """The notebooks that the names mean: ``01``, ``01_train_and_deploy`` or a path; all of them in order for none."""
    known = sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))
    if not names:
        return known
    chosen = [path for path in known if any(path.name.startswith(Path(name).stem) for name in names)]
    for name in names:
        if not any(path.name.startswith(Path(name).stem) for path in known):
            raise BadInput(f"no notebook is called {name!r}; there are: {', '.join(path.stem for path in known)}")
    return chosen


def literal(text: str) -> object:
    """A parameter's value as Python would read it: ``3`` is a number, ``true`` a boolean, ``ml.m5.large`` a string."""
    try:
        return json.loads(text.lower() if text in ("True", "False") else text)
    except ValueError:
        return text


def check_parameters(paths: list[Path], given: dict) -> None:
    """Refuse a parameter that no chosen notebook declares, or of another type: papermill alone would pass it on.

    ``data`` becomes an absolute path in ``given``: the user's folder is not the notebooks'.
    """
    import papermill

    declared = {name: about for path in paths for name, about in papermill.inspect_notebook(str(path)).items()}
    for name, value in given.items():
        if name not in declared:
            raise BadInput(f"no notebook has a parameter {name!r}; there are: {', '.join(sorted(declared))}")
        if name in OWN_FLAGS:
            raise BadInput(f"{name!r} is no -p parameter: say --{name} {value}")
        if not fits(value, declared[name]["inferred_type_name"]):
            raise BadInput(f"the parameter {name!r} must be of type {declared[name]['inferred_type_name']}, not {value!r}")
    if given.get("data"):
        given["data"] = str(data_folder(given["data"]))


def fits(value: object, kind: str) -> bool:
    """Whether a value is of the type that the notebook's parameters cell gives; a whole number is a float too, True is no number."""
    allowed = {"int": (int,), "float": (int, float), "bool": (bool,), "str": (str,)}.get(kind)
    return allowed is None or (isinstance(value, allowed) and isinstance(value, bool) == (kind == "bool"))


def data_folder(name: str) -> Path:
    """The user's data folder, before minutes are spent on it; the training job looks at each file."""
    folder = Path(name).expanduser().absolute()
    for needed in (folder, *(folder / split for split in ("train", "valid", "test"))):
        if not needed.is_dir():
            raise BadInput(
                f"{needed} is no folder: -p data needs one with train/ valid/ test/, each with one folder a class, NNN.Breed_name"
            )
    return folder


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


def execute(path: Path, folder: Path, parameters: dict) -> Outcome:
    """Run one notebook with those of the parameters that it declares; a failing cell ends it and is named."""
    import papermill

    engine()
    declared = papermill.inspect_notebook(str(path))
    outcome, begun = Outcome(path.stem), time.monotonic()
    say(f"{path.stem} ...")
    try:
        done = papermill.execute_notebook(
            str(path), str(folder / path.name), {k: v for k, v in parameters.items() if k in declared},
            engine_name="opml", kernel_name="python3", cwd=str(NOTEBOOKS), progress_bar=sys.stderr.isatty(), shutdown_kernel="immediate",
        )  # fmt: skip
        outcome.cells = len(done.cells)
    except papermill.PapermillExecutionError as error:
        outcome.error = f"cell {error.cell_index + 1}: {error.ename}: {error.evalue}".strip()
    except KeyboardInterrupt:
        outcome.error, outcome.interrupted = f"cell {reached(folder / path.name)}: interrupted", True
    outcome.seconds = round(time.monotonic() - begun, 1)
    word = "INTERRUPTED" if outcome.interrupted else "FAILED" if outcome.error else "done"
    say(f"{path.stem} {word} in {outcome.seconds:.0f} s")
    write_page(folder / path.name)
    return outcome


def reached(executed: Path) -> int:
    """The number of the last cell, from 1, that was begun; papermill saves the notebook before and after each cell."""
    import nbformat

    if not executed.exists():
        return 1
    cells = nbformat.read(executed, as_version=4).cells
    return max([1, *(number for number, cell in enumerate(cells, 1) if cell.metadata.get("papermill", {}).get("start_time"))])


def engine() -> None:
    """Register a papermill engine that loses no error and talks to its kernel over sockets that are files.

    ``import sagemaker`` installs rich tracebacks in IPython, after which a failing cell has no output of type ``error``: papermill then
    knows that a cell failed, but not why; the reason is in the execute reply. A kernel that dies is the failure of the cell it ran.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.engines import NBClientEngine, papermill_engines
    from traitlets.config import Config

    class Engine(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, **options):
            nb_man.cell_exception = with_error_output(nb_man.cell_exception)
            options["coalesce_streams"] = True  # a row of progress dots, not a column
            quiet = ["--log-level=CRITICAL"]  # the interrupt that ends a kernel is no news
            try:
                with tempfile.TemporaryDirectory(prefix="k") as own:  # else all kernels of a clone meet at notebooks/kernel-ipc-1
                    if len(own) > LONGEST_FOLDER:
                        raise BadInput(f"{own} is too long a path for a socket: set TMPDIR to a shorter one, /tmp say")
                    pipes = Config({"KernelManager": {"transport": "ipc", "connection_file": f"{own}/k.json"}})
                    return super().execute_managed_notebook(nb_man, kernel_name, config=pipes, extra_arguments=quiet, **options)
            except DeadKernelError as error:
                reached = [c for c in nb_man.nb.cells if c.metadata.papermill.get("status") != "pending"]
                died_in = (len(reached) - 1, None, reached[-1].source)
                raise papermill.PapermillExecutionError(*died_in, type(error).__name__, str(error), []) from error

    papermill_engines.register("opml", Engine)


def with_error_output(cell_exception: Callable) -> Callable:
    """papermill's handler of a failed cell, which first gives the cell the error output it lacks."""
    import nbformat

    def handler(cell, cell_index=None, exception=None, **more):
        if not any(output.output_type == "error" for output in cell.outputs):
            details = {"ename": exception.ename, "evalue": exception.evalue, "traceback": [str(exception)]}
            cell.outputs.append(nbformat.v4.new_output("error", **details))
        cell_exception(cell, cell_index=cell_index, exception=exception, **more)

    return handler


@contextmanager
def stopped_with_parent(seconds: float = 1.0) -> Iterator[None]:
    """End like after Ctrl-C when the process that started us has gone (kill -9 of make), on SIGTERM, and on SIGHUP (a closed terminal).

    The first of these counts; what follows it would only disturb the clearing up, which takes seconds. Started with nohup (SIGHUP
    ignored) or by init itself, the rehearsal is meant to outlive its parent.
    """
    parent, over = os.getppid(), threading.Event()
    nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    numbers = (signal.SIGINT, signal.SIGTERM) if nohup else (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def watch() -> None:
        while not over.wait(seconds):
            if os.getppid() != parent:
                os.kill(os.getpid(), signal.SIGINT)
                return

    def interrupt(_number: int, _frame: object) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, interrupt) for number in numbers}
    if parent > 1 and not nohup:
        threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()
        for number, handler in previous.items():
            signal.signal(number, handler)


def conclude(summary: Summary, folder: Path, *, keep: bool, since: datetime) -> None:
    """Read the results from AWS, take down what is left (unless it is to be kept), write the summary and the index.

    After an interruption nothing is taken down one by one: the local AWS ends as a whole, and on AWS the user is told what to run.
    """
    from opml.aws import connect
    from opml.resources import inventory, teardown

    aws = connect(summary.target, summary.run_id)
    try:
        if summary.interrupted and summary.target == "aws":
            say(f"What was made so far may bill. Take it down: {teardown_command(summary)}")
        summary.accuracy = accuracies(aws)
        if not (summary.interrupted and summary.target == "local"):
            left = inventory(aws) if keep or summary.interrupted else teardown(aws)
            summary.resources_left = [f"{row.kind} {row.name}" for row in left.itertuples()]
    except OpmlError as error:  # the teardown names what it could not delete
        summary.resources_left = [str(error)]
    finally:
        summary.seconds = round((datetime.now() - since).total_seconds(), 1)
        write_record(summary, folder)


def teardown_command(summary: Summary) -> str:
    """What to type to take down a run."""
    return f"python -m opml teardown --target {summary.target} --run_id {summary.run_id}"


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
    facts = "".join(f"<li>Test accuracy of {html.escape(name)}: {value:.3f}</li>" for name, value in summary.accuracy.items())
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


def report(summary: Summary, folder: Path, *, commit: bool) -> int:
    """Say where to look; a failed notebook is an error that names the cell, resources that are left too."""
    for name, value in summary.accuracy.items():
        say(f"test accuracy {value:.3f}  {name}")
    say(f"{len(summary.notebooks)} notebooks in {summary.seconds:.0f} s; resources left: {len(summary.resources_left)}")
    say(f"read {relative(folder / 'index.html')}")
    if summary.interrupted:
        last = summary.notebooks[-1]
        rest = "the local AWS has ended and nothing is left" if summary.target == "local" else f"take it down: {teardown_command(summary)}"
        raise Interrupted(f"interrupted in {last.notebook}, {last.error.partition(':')[0]}; {rest}")
    for outcome in summary.failed:
        raise NotebookFailed(f"{outcome.notebook} failed in {outcome.error}. Open {relative(folder / outcome.notebook)}.ipynb to see it.")
    if commit:
        from opml.normalise import commit_outputs

        commit_outputs(folder, NOTEBOOKS)
    return 0


def relative(path: Path) -> str:
    """The path as the user in this folder would type it."""
    return os.path.relpath(path)


def say(text: str) -> None:
    """Progress goes to stderr, line by line."""
    print(text, file=sys.stderr, flush=True)


__all__ = ["Outcome", "Summary", "add_arguments", "run", "OpmlError"]
