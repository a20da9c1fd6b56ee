"""One stranger with one local AWS for the whole corpus."""

import pytest
import stranger


@pytest.fixture(scope="session")
def person(tmp_path_factory, tiny_sample):
    """Somebody who follows the course with notebooks of their own."""
    with stranger.Stranger(tmp_path_factory.mktemp("stranger"), tiny_sample) as someone:
        yield someone
