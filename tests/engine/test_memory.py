"""The settings for memory: made at import, and not over a user's own."""

import os
import platform
import subprocess
import sys

import pytest

from kilter.engine import memory


def test_a_user_s_own_setting_stands():
    code = "import os, kilter.engine; print(os.environ['LRU_CACHE_CAPACITY'])"
    for given, expected in ((None, str(memory.KERNELS)), ("7", "7")):
        environment = {k: v for k, v in os.environ.items() if k != "LRU_CACHE_CAPACITY"}
        environment |= {"LRU_CACHE_CAPACITY": given} if given else {}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == expected


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_glibc_takes_the_thresholds():
    assert memory.keep_freed()


def test_elsewhere_nothing_is_done(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not memory.keep_freed()
