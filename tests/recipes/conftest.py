"""Finished runs."""

from __future__ import annotations

import pytest

from onebit import recipes
from tests.recipes.models import DATA, recipe


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """Its folder, and its record."""
    output = tmp_path_factory.mktemp("run") / "finished"
    return output, recipes.train(recipe(), output, data=DATA, precision="float32", verbose=0)


@pytest.fixture(scope="session")
def by_jax(tmp_path_factory):
    """The folder of one of two stages by JAX, the second with a teacher, and its record."""
    output = tmp_path_factory.mktemp("run") / "jax"
    return output, recipes.train(recipe(2), output, data=DATA, backend="jax", precision="float32", verbose=0)
