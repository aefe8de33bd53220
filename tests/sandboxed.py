"""Tests that run programs: left out, saying why, where there is no sandbox."""

import pytest

from kilter.errors import KilterError
from kilter.sandbox import check

try:
    check()
    WHY = ""
except KilterError as error:
    WHY = str(error)
needs_a_sandbox = pytest.mark.skipif(bool(WHY), reason=WHY)
