"""Reward models from disk, and made of a language model's checkpoint."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    PreTrainedTokenizerFast,
)
from transformers import LlamaForSequenceClassification as Judge

from kilter.engine import Valuer
from kilter.errors import KilterError
from kilter.models.load import load, load_value_model, load_weights
from kilter.models.rewarder import Rewarder


def save(tiny_model, folder, **settings):
    """Save a reward model of some thousand random weights, with the tiny model's tokenizer."""
    told = json.loads((tiny_model / "config.json").read_text())
    shape = {name: told[name] for name in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 256}
    Judge(LlamaConfig(**shape, **heads, **{"num_labels": 1, "pad_token_id": 0} | settings)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return folder


def refused(name, like, **settings):
    with pytest.raises(KilterError, match=like) as caught:
        load_value_model(str(name), **settings)
    assert "\n" not in str(caught.value)


def test_one_is_made_of_a_language_model(tiny_model):
    model, tokenizer = load_value_model(str(tiny_model))
    language, _ = load_weights(str(tiny_model))
    assert model.config.num_labels == 1
    assert not model.score.weight.any()
    for (name, ours), theirs in zip(model.base_model.named_parameters(), language.base_model.parameters(), strict=True):
        assert torch.equal(ours, theirs), name
    assert tokenizer.chat_template
    assert Valuer(model).ragged


def test_the_padding_token_ends_no_response_where_there_is_another(tiny_model):
    model, tokenizer = load_value_model(str(tiny_model))
    assert model.config.pad_token_id == tokenizer.pad_token_id == tokenizer.bos_token_id


def test_with_a_single_special_token_that_one_pads(tiny_model, tmp_path):
    core = Tokenizer(models.WordLevel({"<end>": 0, "a": 1, "<unknown>": 2}, unk_token="<unknown>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>", bos_token="<end>")
    load_weights(str(tiny_model))[0].save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model, tokenizer = load_value_model(str(tmp_path))
    assert model.config.pad_token_id == tokenizer.pad_token_id == tokenizer.eos_token_id == 0


def test_one_from_disk_is_as_it_was(tiny_model, tmp_path):
    folder = save(tiny_model, tmp_path)
    model, _ = load_value_model(str(folder), trained=True)
    kept = load_file(folder / "model.safetensors")
    assert torch.equal(model.score.weight, kept["score.weight"])
    assert model.config.pad_token_id == 0
    assert isinstance(load(str(folder)), Rewarder)
    assert load_value_model(str(folder), torch.bfloat16)[0].dtype == torch.bfloat16


def test_a_language_model_where_a_reward_model_is_due(tiny_model):
    refused(tiny_model, "is a language model, and a reward model is due here.*kilter train reward", trained=True)
    with pytest.raises(KilterError, match="a reward model is due"):
        Rewarder(str(tiny_model))


def test_a_reward_model_where_a_language_model_is_due(tiny_model, tmp_path):
    with pytest.raises(KilterError, match="is a reward model, which writes no text"):
        load_weights(str(save(tiny_model, tmp_path)))


def test_several_labels_are_no_reward(tiny_model, tmp_path):
    refused(save(tiny_model, tmp_path, num_labels=3), "tells 3 classes apart")


def test_a_model_that_reads_both_ways_is_no_causal_one(tiny_model, tmp_path):
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertForSequenceClassification(BertConfig(vocab_size=300, num_labels=1, **shape)).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path)
    refused(tmp_path, "BertForSequenceClassification, which is no causal reward model")


def test_a_checkpoint_without_its_head_is_half_a_reward_model(tiny_model, tmp_path):
    folder = save(tiny_model, tmp_path)
    weights = load_file(folder / "model.safetensors")
    del weights["score.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    refused(folder, "lacks the weights score.weight")
