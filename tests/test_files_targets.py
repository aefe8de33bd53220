"""Where a file goes that is no plain file: a link, a device, a pipe."""

import os
import threading
from types import SimpleNamespace

import pytest

from kilter.errors import KilterError
from kilter.files import due, need_space, write_text


def test_what_cannot_be_written_is_known_before(tmp_path):
    (tmp_path / "file").touch()
    assert due(tmp_path / "new" / "deep" / "x.json") == tmp_path / "new" / "deep" / "x.json"
    assert not (tmp_path / "new").exists()
    assert due(tmp_path / "file").exists()
    with pytest.raises(KilterError, match="it is a directory and a file is due"):
        due(tmp_path)
    with pytest.raises(KilterError, match="a part of that path is a file"):
        due(tmp_path / "file" / "x.json")
    if os.geteuid() != 0:  # root may write everywhere
        tmp_path.chmod(0o500)
        with pytest.raises(KilterError, match="no permission"):
            due(tmp_path / "x.json")
        tmp_path.chmod(0o700)


def test_the_space_that_is_wanting_is_told_in_its_unit(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=20 * 2**10))
    with pytest.raises(KilterError, match=r"A state needs 30 KiB in .* but only 20 KiB are free; free some"):
        need_space(tmp_path, 30 * 2**10, "A state")
    with pytest.raises(KilterError, match="needs 3 MiB"):
        need_space(tmp_path / "not" / "there", 3 * 2**20, "A state")
    need_space(tmp_path, 10, "A state")


def test_a_link_stays_a_link(tmp_path):
    real, link = tmp_path / "real.txt", tmp_path / "link.txt"
    real.write_text("old", encoding="utf-8")
    link.symlink_to(real)
    write_text(link, "new")
    assert link.is_symlink()
    assert real.read_text(encoding="utf-8") == "new"


def test_a_pipe_is_written_through(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_text(encoding="utf-8")))
    reader.start()
    write_text(pipe, "through")
    reader.join(timeout=10)
    assert got == ["through"]
    assert pipe.is_fifo()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_device_is_a_sentence_and_stays_a_device():
    with pytest.raises(KilterError, match=r"full|space"):
        write_text("/dev/full", "x" * 100_000)
    assert not os.path.isfile("/dev/full")
