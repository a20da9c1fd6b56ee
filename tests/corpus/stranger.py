"""Runs other people's notebooks as a stranger would: a server from the command line, its ``env``, a folder of their own, a plain kernel."""

import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NOTEBOOKS = sorted((HERE / "notebooks").glob("*.txt"))
WEIGHTS = {"resnet18": "resnet18-f37072fd.pth", "resnet50": "resnet50-0676ba61.pth"}  # the names under which torchvision looks for them
RUN = 'eval "$("$0" -m opml local env)" && cd "$1" && exec "$0" -m papermill --no-progress-bar -k python3 "$2" "$3"'


def needs(notebook: Path) -> set[str]:
    """What a notebook asks for in its first line, ``# needs: aws, bokeh``."""
    first = notebook.read_text().splitlines()[0]
    return set(first.removeprefix("# needs:").replace(",", " ").split()) if first.startswith("# needs:") else set()


def aws_command() -> str | None:
    """The AWS command line of this machine: ``OPML_AWSCLI``, or what is on the path."""
    return os.environ.get("OPML_AWSCLI") or shutil.which("aws")


def make_notebook(source: Path, target: Path) -> None:
    """Turn a text with ``# %%`` between its cells into a notebook."""
    import nbformat

    cells = source.read_text().split("# %%\n")[1:]
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell.strip()) for cell in cells]), target)


def save_weights(torch_home: Path) -> None:
    """Random weights where torchvision looks for pretrained ones: none can be downloaded here."""
    import torch
    import torchvision

    folder = torch_home / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    for name, file in WEIGHTS.items():
        torch.save(getattr(torchvision.models, name)().state_dict(), folder / file)


def serve(folder: Path) -> http.server.ThreadingHTTPServer:
    """A web server on loopback: the data's address, and the pictures that endpoints fetch."""
    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    return server


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files, says nothing."""

    def log_message(self, *arguments) -> None:
        """Nothing."""


class Stranger:
    """One person's shell: an empty HOME, a few tools on the path, a running local AWS.

    Parameters
    ----------
    folder
        for HOME, data and notebooks
    data
        a folder in the layout of ``dogImages``
    """

    def __init__(self, folder: Path, data: Path):
        self.folder, self.site = folder, folder / "site"
        self._tools = folder / "bin"
        for made in (self.site, self._tools, folder / "home"):
            made.mkdir(parents=True)
        if command := aws_command():
            (self._tools / "aws").symlink_to(command)
        save_weights(folder / "torch")
        shutil.copytree(data, self.site / "dogImages")
        shutil.copy(next(data.rglob("*.jpg")), self.site / "dog.jpg")
        shutil.make_archive(str(self.site / "dogImages"), "zip", self.site, "dogImages")
        self.web = serve(self.site)
        self.environment = {
            "PATH": os.pathsep.join([str(self._tools), str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"]),
            "HOME": str(folder / "home"), "TORCH_HOME": str(folder / "torch"), "LANG": "C.UTF-8",
            "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg",
            "CORPUS_URL": f"http://127.0.0.1:{self.web.server_port}", "OMP_NUM_THREADS": "1",
        }  # fmt: skip

    def opml(self, *words: str) -> subprocess.CompletedProcess:
        """Run ``python -m opml``."""
        command = [sys.executable, "-m", "opml", *words]
        return subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=True, timeout=120)

    def shell(self, line: str, timeout: float = 120, **environment: str) -> subprocess.CompletedProcess:
        """Run a shell line after ``eval "$(python -m opml local env)"``, in HOME."""
        line = f'eval "$(cd "{ROOT}" && "{sys.executable}" -m opml local env)" && {line}'
        env, home = {**self.environment, **environment}, self.environment["HOME"]
        return subprocess.run(["bash", "-c", line], cwd=home, env=env, capture_output=True, text=True, timeout=timeout)

    def run(self, notebook: Path, timeout: float = 300) -> subprocess.CompletedProcess:
        """Run one notebook in a folder with its scripts and the data; the executed notebook is ``out.ipynb`` there."""
        work = self.folder / notebook.stem
        shutil.copytree(HERE / "scripts", work)
        if "wget" not in notebook.read_text():
            shutil.copytree(self.site / "dogImages", work / "dogImages")
        shutil.copy(self.site / "dog.jpg", work)
        make_notebook(notebook, work / "notebook.ipynb")
        command = ["bash", "-c", RUN, sys.executable, str(work), "notebook.ipynb", "out.ipynb"]
        return subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=timeout)

    def what_went_wrong(self, notebook: Path) -> str:
        """The output of the cell that failed: the SDK's tracebacks are no outputs of type "error"."""
        import nbformat

        out = self.folder / notebook.stem / "out.ipynb"
        cells = nbformat.read(out, as_version=4).cells if out.exists() else []
        failed = [cell for cell in cells if cell.metadata.get("papermill", {}).get("exception")]
        texts = [output.get("text") or output.get("data", {}).get("text/plain", "") for cell in failed for output in cell.outputs]
        return "\n".join(texts)[-3000:]

    def __enter__(self) -> "Stranger":
        self.opml("local", "start")
        return self

    def __exit__(self, *reason: object) -> None:
        self.opml("local", "stop")
        self.web.shutdown()
        self.web.server_close()
