"""``python -m opml bench train``: how fast and how large training is on this machine, stage by stage, as JSON lines.

Everything runs in processes of its own, one after the other, as SageMaker would start it: ``SM_CHANNEL_TRAINING``,
``SM_MODEL_DIR`` and ``SM_OUTPUT_DATA_DIR`` name the folders, settings are flags. A ``--baseline`` script gets those of ``--epochs``,
``--batch_size``, ``--arch`` and ``--image_size`` (or with hyphens) that its text names, then the words of ``--baseline-args``, in which
``{data}``, ``{model_dir}`` and ``{epochs}`` are replaced. If it prints ``done in N s`` its start is left out of one of the ratios.
"""

import argparse
import json
import os
import re
import shlex
import socket
import sys
import tempfile
from pathlib import Path

from opml.commands import at_least
from opml.commands.weigh import Weighed, run_weighed
from opml.errors import BadInput
from opml.staging import REPOSITORY

COURSE = Path(__file__).with_name("course_script.py")
PRECISIONS = ("float32", "bfloat16")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``bench train``."""
    parser.add_argument("--data", required=True, type=Path, help="folder with train/ valid/ test/")
    parser.add_argument("--baseline", type=Path, default=COURSE, help="a script to compare with (default: an imitation of the course's)")
    parser.add_argument("--baseline-args", default="", help="more words for it; {data}, {model_dir} and {epochs} are replaced")
    parser.add_argument("--arch", default="resnet50", help="architecture (default: resnet50)")
    parser.add_argument("--image-size", type=at_least(1), default=224, help="pixels (default: 224)")
    parser.add_argument("--epochs", type=at_least(1), default=10, help="of the longer job; one epoch is measured too (default: 10)")
    parser.add_argument("--batch-size", type=at_least(1), default=32, help="global batch (default: 32)")
    parser.add_argument("--threads", type=at_least(0), default=0, help="threads of each process (default: torch's choice)")
    parser.add_argument(
        "--processes", type=at_least(1), default=1, help="also: so many processes of one thread against one process of one thread"
    )


def run(args: argparse.Namespace) -> int:
    """Measure stage by stage; each prints its line when it is done."""
    for path, what in ((args.data, "data folder"), (args.baseline, "baseline script")):
        if not path.exists():
            raise BadInput(f"there is no {what} {path}: name another")
    with tempfile.TemporaryDirectory(prefix="opml-bench-") as place:
        _machine(args, Path(place))
        for epochs in sorted({1, args.epochs}):
            _jobs(args, epochs, Path(place))
        if args.processes > 1:
            _together(args, Path(place))
    return 0


def _machine(args: argparse.Namespace, place: Path) -> None:
    """Decoding, the bound and the first pass: see opml.core.measure."""
    words = ["-m", "opml.core.measure", "--data", str(args.data.resolve()), "--arch", args.arch, "--image_size", str(args.image_size)]
    done = _weigh([*words, "--weights", "none"], place, _environment(args, place))
    for line in done.log.splitlines():
        if line.startswith("{"):
            print(line, flush=True)


def _jobs(args: argparse.Namespace, epochs: int, place: Path) -> None:
    """The baseline, then hpo.py in both precisions, on the same data for the same number of epochs."""
    base = _weigh(baseline_words(args, epochs, place), place, _environment(args, place))
    _print(stage=f"{epochs} epochs", script=args.baseline.name, **_numbers(base))
    for precision in PRECISIONS:
        ours = _weigh([str(REPOSITORY / "hpo.py"), *_settings(args, epochs, precision=precision)], place, _environment(args, place))
        numbers = _numbers(ours)
        faster = {"times_faster": round(base.seconds / ours.seconds, 2), "memory_of_baseline": round(ours.peak_mb / base.peak_mb, 2)}
        if "work_seconds" in _numbers(base):
            faster["times_faster_without_start"] = round(_numbers(base)["work_seconds"] / numbers["work_seconds"], 2)
        _print(stage=f"{epochs} epochs", script="hpo.py", precision=precision, **numbers, **faster)


def baseline_words(args: argparse.Namespace, epochs: int, place: Path) -> list[str]:
    """The command line of the baseline: those flags that its text names, and what the user adds."""
    text, words = args.baseline.read_text(), [str(args.baseline.resolve())]
    for name, value in (("epochs", epochs), ("batch_size", args.batch_size), ("arch", args.arch), ("image_size", args.image_size)):
        for flag in (f"--{name}", f"--{name.replace('_', '-')}"):
            if re.search(rf"[\"']{flag}[\"']", text):
                words += [flag, str(value)]
                break
    known = {"data": str(args.data.resolve()), "model_dir": str(place / "model"), "epochs": str(epochs)}
    return words + [word.format(**known) for word in shlex.split(args.baseline_args)]


def _settings(args: argparse.Namespace, epochs: int, **more: object) -> list[str]:
    settings = {"arch": args.arch, "image_size": args.image_size, "epochs": epochs, "batch_size": args.batch_size}
    settings |= {"weights": "none", "freeze": "backbone", **more}
    return [word for name, value in settings.items() for word in (f"--{name}", str(value))]


def _together(args: argparse.Namespace, place: Path) -> None:
    """One process of one thread against several: features, then fine-tuning of the whole network, images per second."""
    for stage, settings, speed in (
        ("features", {"freeze": "backbone", "precision": "float32"}, _of_features),
        ("fine-tuning", {"freeze": "none", "augment": False}, _of_the_epoch),
    ):
        words = [str(REPOSITORY / "hpo.py"), *_settings(args, 1, **settings)]
        rates = []
        for count in (1, args.processes):
            done = _weigh(words, place, *[_environment(args, place, threads=1) | host for host in hosts(count)])
            rates.append(speed(done, place))
            row = {"images_per_second": round(rates[-1], 2), "times": round(rates[-1] / rates[0], 2), "peak_mb": done.peak_mb}
            _print(stage=stage, processes=count, **row)


def _of_features(done: Weighed, place: Path) -> float:
    """Images per second of the first pass, as the log has them."""
    count, seconds = re.search(r"features of (\d+) pictures in ([\d.]+) s", done.log).groups()
    return int(count) / float(seconds)


def _of_the_epoch(done: Weighed, place: Path) -> float:
    """Images per second of the only epoch, as the job's output has them: the log rounds."""
    return json.loads((place / "output" / "metrics.json").read_text())["history"][0]["images_per_second"]


def hosts(count: int) -> list[dict[str, str]]:
    """The variables of each instance of one job, all on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    names = [f"algo-{number + 1}" for number in range(count)]
    shared = {"SM_HOSTS": json.dumps(names), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "SM_NETWORK_INTERFACE_NAME": "lo"}
    return [shared | {"SM_CURRENT_HOST": name} for name in names]


def _environment(args: argparse.Namespace, place: Path, threads: int = 0) -> dict[str, str]:
    for name in ("model", "output"):
        (place / name).mkdir(exist_ok=True)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SM_")}
    clean.pop("OMP_WAIT_POLICY", None)  # ours sets it itself; the baseline runs as anybody runs it
    clean |= {
        "SM_CHANNEL_TRAINING": str(args.data.resolve()),
        "SM_MODEL_DIR": str(place / "model"),
        "SM_OUTPUT_DATA_DIR": str(place / "output"),
    }
    threads = threads or args.threads
    return clean | {"PYTHONPATH": str(REPOSITORY)} | ({"OMP_NUM_THREADS": str(threads)} if threads else {})


def _weigh(words: list[str], place: Path, *environments: dict[str, str]) -> Weighed:
    done = run_weighed([sys.executable, *words], place, environments)
    if done.exit_code:
        raise BadInput(f"{' '.join(words)} ended with exit code {done.exit_code}: {done.log.strip().splitlines()[-1:]}")
    return done


def _numbers(done: Weighed) -> dict[str, float]:
    """Wall-clock seconds of the whole process; those of its work, if its last lines say so; peak memory, MB."""
    said = re.findall(r"^done in ([\d.]+) s", done.log, re.M)
    work = {"work_seconds": float(said[-1])} if said else {}
    return {"seconds": round(done.seconds, 2), **work, "peak_mb": done.peak_mb}


def _print(**row: object) -> None:
    print(json.dumps(row), flush=True)
