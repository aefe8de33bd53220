"""Fixtures for every folder of tests. Nothing heavy is imported before a test asks for it."""

import pytest

from small import make_model, make_recipe


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A folder with a real llama checkpoint of some thousands of random parameters."""
    return make_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def small_recipe(tmp_path, tiny_model):
    """A recipe with a stage of every kind, in `tmp_path` beside the files that it names."""
    return make_recipe(tmp_path, tiny_model)
