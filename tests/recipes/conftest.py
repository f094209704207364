"""A finished run, and a copy of it to damage."""

from __future__ import annotations

import shutil

import pytest

from onebit import recipes
from tests.recipes.models import DATA, recipe


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """Its folder, and its record."""
    output = tmp_path_factory.mktemp("run") / "finished"
    return output, recipes.train(recipe(), output, data=DATA, verbose=0)


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the finished run, to damage."""
    return shutil.copytree(finished[0], tmp_path / "copy")
