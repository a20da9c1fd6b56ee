"""The family of errors that opml raises on purpose.

::

    OpmlError                 something the reader can act on; the command line prints it and exits with ``exit_code``
    |-- BadInput              an argument, a file or a folder is not what is needed         (exit code 2)
    |-- NotFound              a named AWS resource does not exist                           (exit code 2)
    |-- LocalAwsError         the local AWS could not be started, found or stopped          (exit code 1)
    |-- NotebookFailed        a notebook of a rehearsal failed; names notebook and cell     (exit code 1)
    `-- Interrupted           Ctrl-C or a signal ended it; says what that leaves           (exit code 130)

``opml.core`` travels without this module and has ``opml.core.config.BadConfig`` (a ``ValueError``) for the same purpose.
Every message answers three questions: what happened, with which value, and what to run next.
"""


class OpmlError(Exception):
    """Base of all errors that opml raises on purpose."""

    exit_code = 1


class BadInput(OpmlError):
    """An argument, a file or a folder is not what is needed."""

    exit_code = 2


class NotFound(OpmlError):
    """A named AWS resource does not exist."""

    exit_code = 2


class LocalAwsError(OpmlError):
    """The local AWS could not be started, found or stopped."""


class NotebookFailed(OpmlError):
    """A notebook of a rehearsal failed; the message names the notebook and the cell."""


class Interrupted(OpmlError):
    """Ctrl-C, a signal or the end of the parent ended the work; the message says what that leaves."""

    exit_code = 130  # as shells count a program ended by Ctrl-C
