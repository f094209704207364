"""A finished run."""

from __future__ import annotations

import pytest

from onebit import recipes
from tests.recipes.models import DATA, recipe


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """Its folder, and its record."""
    output = tmp_path_factory.mktemp("run") / "finished"
    return output, recipes.train(recipe(), output, data=DATA, precision="float32", verbose=0)
