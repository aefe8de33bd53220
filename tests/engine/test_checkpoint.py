"""What is left on disk: readable by transformers as it is, whole or not there, without pickles."""

import errno
import json
import os
from pathlib import Path

import pytest
import torch
from tokenizers_for_tests import byte_level
from transformers import AutoModelForCausalLM, AutoTokenizer

from kilter.engine import Scorer, checkpoint, collate
from kilter.engine.loop import LoopOptions, train
from kilter.engine.optim import adamw
from kilter.errors import KilterError
from kilter.training.sft import sft
from tiny_models import make, ordinary, pair_trees

OPTIONS = LoopOptions(steps=2, learning_rate=1e-2, batch_size=4, precision="fp32")


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2"])
def test_plain_transformers_load_it_and_find_the_same(tmp_path, name):
    model, trees = make(name), pair_trees(4)
    train(model, trees, sft, OPTIONS, tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    with torch.no_grad():
        found = Scorer(model)(collate(trees)).tokens
        assert float((ordinary(loaded, trees) - found).abs().max()) <= 2e-5
    assert "kilter" not in (tmp_path / "config.json").read_text(encoding="utf-8")
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".bin", ".pt", ".pkl")]
    told = json.loads((tmp_path / "training.json").read_text(encoding="utf-8"))
    assert told["steps"] == 2
    assert told["options"]["learning_rate"] == 1e-2


def test_the_tokenizer_and_its_chat_template_come_along(tmp_path):
    tokenizer = byte_level("{% for message in messages %}{{ message.content }}|{% endfor %}")
    train(make(), pair_trees(4), sft, OPTIONS, tmp_path, tokenizer=tokenizer)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.chat_template == tokenizer.chat_template
    talk = [{"role": "user", "content": "你好 there"}]
    assert loaded.apply_chat_template(talk)["input_ids"] == tokenizer.apply_chat_template(talk)["input_ids"]


def test_a_state_gives_back_weights_and_moments(tmp_path):
    model, other = make(), make(seed=1)
    optimizers = [
        adamw(m, learning_rate=0.1, weight_decay=0.1, betas=(0.9, 0.95), epsilon=1e-8) for m in (model, other)
    ]
    for _ in range(2):
        ordinary(model, pair_trees(1)).sum().backward()
        optimizers[0].step()
    checkpoint.save_state(tmp_path, 7, model, optimizers[0], {"losses": [1.5]})
    state = checkpoint.find_state(tmp_path)
    assert checkpoint.read_facts(state) == {"losses": [1.5], "step": 7}
    checkpoint.load_state(state, other, optimizers[1])
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
        kept, found = optimizers[0].state[one], optimizers[1].state[two]
        assert kept.keys() == found.keys()
        assert all(torch.equal(kept[key], found[key]) for key in kept)
    checkpoint.save_state(tmp_path, 9, model, optimizers[0], {})
    assert [path.name for path in tmp_path.iterdir()] == ["state-000000009"]


def test_a_torn_state_is_not_seen_and_a_damaged_one_is_said(tmp_path):
    model = make()
    optimizer = adamw(model, learning_rate=0.1, weight_decay=0.0, betas=(0.9, 0.95), epsilon=1e-8)
    checkpoint.save_state(tmp_path, 3, model, optimizer, {})
    (tmp_path / ".state-000000004").mkdir()
    (tmp_path / ".state-000000004" / "model.safetensors").write_bytes(b"half")
    state = checkpoint.find_state(tmp_path)
    assert state.name == "state-000000003"
    (state / "model.safetensors").write_bytes(b"half")
    with pytest.raises(KilterError, match="cannot be read"):
        checkpoint.load_state(state, model, optimizer)


@pytest.fixture
def small_files():
    """Let no file grow beyond 20 kB, which is what a full disk feels like to the one who writes."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_does_not_take_the_state_is_said_and_the_last_one_stays(tmp_path, request):
    model = make()
    optimizer = adamw(model, learning_rate=0.1, weight_decay=0.0, betas=(0.9, 0.95), epsilon=1e-8)
    checkpoint.save_state(tmp_path, 1, model, optimizer, {})
    request.getfixturevalue("small_files")
    with pytest.raises(KilterError, match="write"):
        checkpoint.save_state(tmp_path, 2, model, optimizer, {})
    assert [path.name for path in tmp_path.iterdir()] == ["state-000000001"]
    checkpoint.load_state(checkpoint.find_state(tmp_path), model, optimizer)


def test_a_disk_that_does_not_take_the_model_is_said(tmp_path, small_files):
    with pytest.raises(KilterError, match="write"):
        checkpoint.save_model(make(), None, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_has_its_own_sentence(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(KilterError, match="free some space"):
        checkpoint.save_model(make(), None, Path(tmp_path))
