"""One notebook of the corpus (``tests/corpus``) in a stranger's shell, and what such a shell is told; the whole corpus: ``-m corpus``."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "corpus"))
import stranger  # noqa: E402


@pytest.fixture(scope="module")
def person(tmp_path_factory, tiny_sample):
    with stranger.Stranger(tmp_path_factory.mktemp("stranger"), tiny_sample) as someone:
        yield someone


def test_a_notebook_written_for_aws_runs_to_its_end(person):
    notebook = stranger.HERE / "notebooks" / "00_in_short.txt"
    done = person.run(notebook)
    assert done.returncode == 0, person.what_went_wrong(notebook) or done.stderr[-3000:]


ASK = """
import sagemaker, sagemaker.session, time
print(sagemaker.get_execution_role(), sagemaker.Session().default_bucket(), sagemaker.session.time is time)
"""


def test_the_sdk_of_a_plain_python_knows_role_and_bucket_and_does_not_wait(person):
    done = person.shell(f'"{sys.executable}" -c "{ASK}"')
    role = "arn:aws:iam::123456789012:role/service-role/AmazonSageMaker-ExecutionRole-Notebook"
    assert done.stdout.splitlines()[-1].split() == [role, "sagemaker-us-east-1-123456789012", "False"], done.stderr


def test_a_sitecustomize_of_the_users_own_still_runs(person, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("print('mine')")
    done = person.shell(f'"{sys.executable}" -c "print(1)" | tail -2', PYTHONPATH=f"{stranger.ROOT}:{tmp_path}")
    assert done.stdout.split() == ["mine", "1"], done.stderr


def test_without_the_local_aws_the_sdk_is_left_alone(person):
    done = person.shell(f'unset AWS_ENDPOINT_URL; "{sys.executable}" -c "import sagemaker.session as s, time; print(s.time is time)"')
    assert done.stdout.splitlines()[-1] == "True", done.stderr
