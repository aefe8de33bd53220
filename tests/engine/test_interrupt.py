"""What is left to say when another process of a run has gone, whichever way this one hears of it."""

import os
import signal

import pytest

from kilter.engine.interrupt import in_company
from kilter.errors import KilterError


@pytest.fixture(autouse=True)
def usual():
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


def told_to_end():
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("error", ["[../gloo/transport/tcp/pair.cc:553] Connection closed by peer", "Broken pipe"])
def test_waiting_in_vain_ends_with_a_sentence_that_being_told_to_end_does_not_cut_off(error):
    sentence = "Another process of this run has gone.* give the same command again"
    with pytest.raises(KilterError, match=sentence), in_company():
        raise RuntimeError(error)
    told_to_end()


def test_being_told_to_end_is_such_a_sentence_however_often():
    with pytest.raises(KilterError, match="Another process of this run has gone"), in_company():
        told_to_end()
    told_to_end()


def test_other_errors_are_what_they_are_and_leave_sigterm_as_it_was():
    with pytest.raises(RuntimeError, match="mat1 and mat2"), in_company():
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with in_company():
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
