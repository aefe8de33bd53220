"""The settings for memory: made at import, and not over a user's own."""

import os
import platform
import subprocess
import sys

import pytest

from kilter import allocator
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


FREED = """
import torch
from kilter.engine import memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

held = [torch.ones(2**18) for _ in range(300)]
del held
kept = resident()
assert memory.give_back_freed()
print(kept - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
@pytest.mark.parametrize("better", [False, True])
def test_what_was_kept_goes_back_where_it_is_asked_for(better):
    plain = {k: v for k, v in os.environ.items() if k not in ("LD_PRELOAD", "KILTER_ALLOCATOR", "MALLOC_CONF")}
    more = allocator.environment(plain) if better else {}
    if better and not more:
        pytest.skip("jemalloc is not installed")
    # Never by itself: at the start jemalloc may give back before its time.
    own = plain | more | {"MALLOC_CONF": "dirty_decay_ms:-1"}
    done = subprocess.run([sys.executable, "-c", FREED], env=own, capture_output=True, text=True, check=True)
    assert int(done.stdout) > 250 * 2**20


def test_elsewhere_nothing_is_done(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not memory.keep_freed()
    assert not memory.give_back_freed()
