"""The better allocator: who gets it, who does not, and that a command begins again with it."""

import json
import os
import subprocess
import sys

import pytest

from kilter import allocator

FIRST = "libm.so.6"  # a library that every Linux has: loaded first it changes nothing


@pytest.fixture
def plain(monkeypatch):
    """Linux without an accelerator, where every library is installed."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(allocator, "ACCELERATORS", ())
    monkeypatch.setattr(allocator, "_installed", lambda library: True)


def test_jemalloc_comes_first_with_its_settings(plain):
    found = allocator.environment({"LD_PRELOAD": "libfirst.so"})
    assert found == {"LD_PRELOAD": "libjemalloc.so.2 libfirst.so", "MALLOC_CONF": allocator.SETTINGS}


def test_a_user_s_own_settings_stand(plain):
    assert "MALLOC_CONF" not in allocator.environment({"MALLOC_CONF": "narenas:1"})
    assert allocator.environment({"KILTER_ALLOCATOR": "libtcmalloc.so.4"}) == {"LD_PRELOAD": "libtcmalloc.so.4"}


@pytest.mark.parametrize(
    "given",
    [
        {"KILTER_ALLOCATOR": "system"},
        {"LD_PRELOAD": "/usr/lib/libtcmalloc.so.4"},
        {"LD_PRELOAD": "libfirst.so:libjemalloc.so.2"},
        {"KILTER_ALLOCATOR": FIRST, "LD_PRELOAD": FIRST},
    ],
)
def test_nothing_is_added_to_what_was_chosen(plain, given):
    assert allocator.environment(given) == {}


def test_nothing_is_added_elsewhere(plain, monkeypatch, tmp_path):
    monkeypatch.setattr(allocator, "ACCELERATORS", (str(tmp_path),))
    assert allocator.environment({}) == {}
    monkeypatch.setattr(allocator, "ACCELERATORS", ())
    monkeypatch.setattr(allocator, "_installed", lambda library: False)
    assert allocator.environment({}) == {}
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(allocator, "_installed", lambda library: True)
    assert allocator.environment({}) == {}


def test_what_is_not_installed_is_told(tmp_path):
    assert not allocator._installed("libthere-is-none.so.9")
    assert not allocator._installed(str(tmp_path / "libnone.so"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="libraries are loaded first on Linux")
@pytest.mark.parametrize(("named", "found"), [(FIRST, FIRST), ("system", "system"), ("libnone.so.9", "system")])
def test_a_command_begins_again_with_it(named, found):
    environment = {k: v for k, v in os.environ.items() if k not in ("LD_PRELOAD", "KILTER_ALLOCATOR")}
    environment |= {"KILTER_ALLOCATOR": named}
    told = [sys.executable, "-m", "kilter", "doctor", "--json"]
    done = subprocess.run(told, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["allocator"] == found
    assert not done.stderr
