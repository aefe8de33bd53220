"""Names of models, and what is said of those that cannot be had."""

import asyncio
import json
import shutil
import threading

import pytest
import torch

from kilter import hub
from kilter.errors import KilterError
from kilter.models.load import checkpoint, load, load_weights
from kilter.models.protocol import Sampling
from kilter.models.server import Server
from kilter.records import Message


@pytest.fixture
def copy(tiny_model, tmp_path):
    """A checkpoint to be spoilt."""
    return shutil.copytree(tiny_model, tmp_path / "copy")


def refused(name, like):
    with pytest.raises(KilterError, match=like) as caught:
        load_weights(str(name))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_is_loaded_and_asked(tiny_model):
    model = load(str(tiny_model))
    [answer] = asyncio.run(model.ask([Message("user", "hello")], Sampling(max_tokens=3)))
    assert answer.tokens == 3
    assert model.name == str(tiny_model)


def test_weights_come_with_a_chat_template(tiny_model):
    model, tokenizer = load_weights(str(tiny_model), torch.bfloat16)
    assert model.dtype == torch.bfloat16
    assert "generation" in tokenizer.chat_template


def test_a_server_is_no_checkpoint():
    assert isinstance(load("http://127.0.0.1:1/v1#x"), Server)
    with pytest.raises(KilterError, match="is a server"):
        checkpoint("http://127.0.0.1:1/v1#x")


@pytest.mark.parametrize("name", ["nano", "kilter/nan", "./nothing", "/no/such/folder", "a/b/c"])
def test_unknown_names_say_what_is_expected(name):
    told = refused(name, "There is no model")
    assert "a folder, a hub id" in told
    if "nan" in name:
        assert "Did you mean 'kilter/nano'?" in told


def test_a_hub_id_without_network(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    refused("someone/some-model-nobody-has", "not in the cache, and the hub cannot be reached")


def test_a_name_that_nobody_looks_up_in_time(monkeypatch):
    monkeypatch.delenv("HTTPS_PROXY", raising=False)
    monkeypatch.delenv("https_proxy", raising=False)
    monkeypatch.setattr(hub, "WAIT", 0.2)
    looked_up = threading.Event()

    def never(*_, **__):
        looked_up.wait()
        raise OSError

    monkeypatch.setattr(hub.socket, "create_connection", never)
    try:
        refused("someone/some-model-nobody-has", "the hub cannot be reached")
        assert not looked_up.is_set()
    finally:
        looked_up.set()


@pytest.mark.parametrize(("name", "value"), [("HF_HUB_OFFLINE", "on"), ("TRANSFORMERS_OFFLINE", "1")])
def test_nobody_is_asked_where_the_network_is_forbidden(monkeypatch, name, value):
    asked = []
    monkeypatch.setattr(hub.socket, "create_connection", lambda *_, **__: asked.append(1))
    monkeypatch.setenv(name, value)
    assert hub.forbidden()
    assert not hub.answers()
    assert not asked


def test_a_file_or_a_folder_of_something_else(tmp_path):
    (tmp_path / "model.bin").write_text("x", encoding="utf-8")
    refused(tmp_path / "model.bin", "is a file")
    refused(tmp_path, r"has no config\.json")
    (tmp_path / "adapter_config.json").write_text("{}", encoding="utf-8")
    refused(tmp_path, r"half written: adapter_model\.safetensors")


def test_weights_that_are_cut_short(copy):
    weights = copy / "model.safetensors"
    whole = weights.read_bytes()
    for length in (0, 7, 300, len(whole) - 1):
        weights.write_bytes(whole[:length])
        refused(copy, "is half written: model.safetensors")
    weights.unlink()
    refused(copy, "has no weights in safetensors")


def test_a_shard_that_is_missing(copy):
    index = copy / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model.safetensors", "b": "other.safetensors"}}), encoding="utf-8")
    refused(copy, "half written: other.safetensors")
    index.write_text("{", encoding="utf-8")
    refused(copy, "half written: model.safetensors.index.json")


def test_weights_that_do_not_belong_to_the_config(copy):
    config = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    (copy / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}), encoding="utf-8")
    refused(copy, r"lacks the weights model\.layers\.2.* and \d+ more")
    (copy / "config.json").write_text(json.dumps(config | {"hidden_size": 32}), encoding="utf-8")
    refused(copy, "cannot be loaded")
    (copy / "config.json").write_text(json.dumps(config | {"model_type": "no-such"}), encoding="utf-8")
    refused(copy, "cannot be loaded")
    (copy / "config.json").write_text("{", encoding="utf-8")
    refused(copy, "cannot be loaded")


def test_a_tokenizer_that_is_missing_or_damaged(copy):
    (copy / "tokenizer.json").write_text('{"version": "1.0", "trunc', encoding="utf-8")
    refused(copy, "has a tokenizer that cannot be read .*; put the tokenizer's files of that very model there")
    for file in copy.glob("token*"):
        file.unlink()
    refused(copy, "has no tokenizer; put")


def test_a_training_that_is_not_finished(copy):
    (copy / "config.json").unlink()
    refused(copy, r"has no config\.json")
    (copy / "metrics.jsonl").touch()
    refused(copy, "is a training that is not finished; give the command that began it again")


def test_a_tokenizer_of_another_model(copy):
    tokenizer = load_weights(str(copy))[1]
    tokenizer.add_tokens([f"<more {i}>" for i in range(50)])
    tokenizer.save_pretrained(copy)
    refused(copy, "has 3.. tokens, its model 300")
