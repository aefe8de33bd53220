"""Fixtures for every folder of tests. Nothing heavy is imported before a test asks for it."""

import signal

import pytest

from small import make_model, make_recipe


def pytest_configure():
    # Started in the background (nohup, &) a process ignores Ctrl-C, and so would all that the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A folder with a real llama checkpoint of some thousands of random parameters."""
    return make_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def small_recipe(tmp_path, tiny_model):
    """A recipe with a stage of every kind, in `tmp_path` beside the files that it names."""
    return make_recipe(tmp_path, tiny_model)
