"""Run the notebooks in order, headless, and leave a record: executed notebooks, pages to read, a summary.

``python -m opml rehearse`` is the user's door. The runner is papermill; what is added here is the order, the check of parameter names,
progress, the record under ``runs/<time>/`` and the last word: what is left running.
"""

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from opml.engine import engine, reached
from opml.errors import BadInput, Interrupted, NotebookFailed, OpmlError
from opml.record import Outcome, Summary, accuracies, index_page, new_folder, versions, write_page, write_record
from opml.staging import REPOSITORY

NOTEBOOKS = REPOSITORY / "notebooks"
OWN_FLAGS = ("run_id", "target", "keep")  # parameters that the rehearsal itself sets


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``python -m opml rehearse``."""
    parser.add_argument("only", nargs="*", help="notebooks to run, by number or name (default: all, in order)")
    parser.add_argument("--target", choices=("local", "aws"), default="local", help="where the notebooks run (aws costs money)")
    parser.add_argument("--run_id", help="name of this run in all resources and tags (default: made from the time)")
    parser.add_argument(
        "-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="set a notebook parameter"
    )
    parser.add_argument("--out", type=Path, default=REPOSITORY / "runs", help="folder for the records (default: runs)")
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
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
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
        summary.accuracy_by_job = accuracies(aws)
        summary.accuracy = next((value for name, value in summary.accuracy_by_job.items() if name.startswith(aws.name("train"))), None)
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


def report(summary: Summary, folder: Path, *, commit: bool) -> int:
    """Say where to look; a failed notebook is an error that names the cell, resources that are left too."""
    for name, value in summary.accuracy_by_job.items():
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


__all__ = ["Outcome", "Summary", "add_arguments", "index_page", "run"]
