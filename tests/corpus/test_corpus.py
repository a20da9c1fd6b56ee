"""Notebooks of the same course as other people write them, from the first cell to the last: ``python -m pytest -m corpus tests/corpus``.

Some minutes; not part of the ordinary run, which has one of them (``tests/functional/test_other_peoples_notebooks.py``).
"""

import importlib.util

import pytest
import stranger

pytestmark = pytest.mark.corpus


@pytest.mark.parametrize("notebook", stranger.NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_to_its_end(person, notebook):
    if "aws" in stranger.needs(notebook) and stranger.aws_command() is None:
        pytest.skip("no AWS command line: set OPML_AWSCLI to one, or put it on the path")
    if "bokeh" in stranger.needs(notebook) and importlib.util.find_spec("bokeh") is None:
        pytest.skip("smdebug's chart classes import bokeh, which this Python does not have")
    done = person.run(notebook)
    assert done.returncode == 0, person.what_went_wrong(notebook) or done.stderr[-3000:]
