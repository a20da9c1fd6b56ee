"""A papermill engine that loses no error and opens no TCP port."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from opml.errors import BadInput

LONGEST_FOLDER = 95  # characters; the kernel allows 103 (macOS) for a socket in it


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


def reached(executed: Path) -> int:
    """The number of the last cell, from 1, that was begun; papermill saves the notebook before and after each cell."""
    import nbformat

    if not executed.exists():
        return 1
    cells = nbformat.read(executed, as_version=4).cells
    return max([1, *(number for number, cell in enumerate(cells, 1) if cell.metadata.get("papermill", {}).get("start_time"))])
