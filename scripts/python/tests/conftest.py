"""The runs that scripts/check-python makes, each a folder in SAE_EXTRACT_RUNS."""

import os
import shutil
import warnings
from pathlib import Path

import pytest

import sae_extract_io

MODEL, OTHER_MODEL = "google/gemma-2-2b", "google/gemma-2-9b"
FIXTURES = Path(__file__).resolve().parents[3] / "Fixtures"


def pytest_sessionstart(session):
    if "SAE_EXTRACT_RUNS" not in os.environ:
        pytest.exit("SAE_EXTRACT_RUNS is not set: run scripts/check-python, which makes the runs that these tests read", 4)


@pytest.fixture(scope="session")
def runs():
    return Path(os.environ["SAE_EXTRACT_RUNS"])


@pytest.fixture
def copied(runs, tmp_path):
    """Copies a run to where it may be damaged."""

    def copy(name):
        shutil.copytree(runs / name, tmp_path / name)
        return tmp_path / name

    return copy


@pytest.fixture
def load():
    """`load_run` where every warning is an error, also where pytest is run without -W error."""

    def load_run(*arguments, **options):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return sae_extract_io.load_run(*arguments, **options)

    return load_run
