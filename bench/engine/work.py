"""What both sides are given: a folder with a model and its tokenizer, and rows of text. Made anew from a seed.

The texts are made such that both sides come to the same tokens: a prompt ends where a token ends, and a response is
closed by the end-of-sequence token, which TRL adds by itself and Kilter by the chat template.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

PAD, END = "<pad>", "</s>"
# The texts as they are, one behind the other.
TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}"
    "{% else %}{{ message['content'] }}{% endif %}{% endfor %}"
)
SHAPES: dict[str, dict[str, int]] = {
    "15m": {"vocab_size": 4096, "hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 8,
            "num_attention_heads": 6, "num_key_value_heads": 6},
    "nano": {"vocab_size": 3072, "hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 6,
             "num_attention_heads": 6, "num_key_value_heads": 6},
    "wide": {"vocab_size": 150_000, "hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 4,
             "num_attention_heads": 8, "num_key_value_heads": 8},
    "1b": {"vocab_size": 128_256, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
           "num_attention_heads": 32, "num_key_value_heads": 8},
    "tiny": {"vocab_size": 512, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
             "num_attention_heads": 2, "num_key_value_heads": 2},
}  # fmt: skip
# Longest vocabulary that is learned from texts: the models' own is larger on a GPU, which then uses a part of it.
LEARNED = 4096


def make_model(folder: Path, shape: str) -> None:
    """Write a Llama of the given shape with random weights in fp32, the embedding shared with the head."""
    torch.manual_seed(0)
    config = LlamaConfig(
        **SHAPES[shape], max_position_embeddings=1024, tie_word_embeddings=True, pad_token_id=0, eos_token_id=1,
        bos_token_id=None,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)


def word_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """One word a token: texts of random words then have exactly as many tokens as are wanted."""
    words = {PAD: 0, END: 1} | {f"w{i}": i for i in range(2, vocabulary)}
    inner = Tokenizer(models.WordLevel(words, unk_token=PAD))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return _dressed(inner)


def learned_tokenizer(texts: Iterator[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE learned from `texts`."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    size = min(vocabulary, LEARNED)
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=[PAD, END], initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator(texts, trainer)
    return _dressed(inner)


def _dressed(inner: Tokenizer) -> PreTrainedTokenizerFast:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token=PAD, eos_token=END)
    tokenizer.chat_template = TEMPLATE
    tokenizer.model_max_length = 1024
    return tokenizer


def pairs(count: int, prompt: int, response: int, vocabulary: int, responses: int = 2) -> list[dict[str, Any]]:
    """`count` prompts with some responses each, of random words; the last token of a response is the closing one."""
    draw = random.Random(0)

    def text(length: int) -> str:
        return " ".join(f"w{draw.randrange(2, vocabulary)}" for _ in range(length))

    return [
        {"prompt": text(prompt), "responses": [" " + text(response - 1) for _ in range(responses)]}
        for _ in range(count)
    ]


def hh(file: Path, count: int, length: int, vocabulary: int) -> tuple[PreTrainedTokenizerFast, list[dict[str, Any]]]:
    """The first `count` usable pairs of an HH file, a tokenizer learned from it; responses are cut at `length` tokens.

    A pair is usable where the two transcripts part at the assistant's last turn and the prompt leaves an eighth of the
    length free.
    """
    parted: list[tuple[str, str, str]] = []
    mark = "\n\nAssistant:"
    for line in file.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        behind = row["chosen"].rfind(mark) + len(mark)
        if row["rejected"][:behind] == row["chosen"][:behind] and mark not in row["rejected"][behind:]:
            parted.append((row["chosen"][:behind], row["chosen"][behind:], row["rejected"][behind:]))
    tokenizer = learned_tokenizer((text for texts in parted for text in texts), vocabulary)
    rows = []
    for before, *answers in parted:
        room = length - len(tokenizer(before)["input_ids"]) - 1
        if room < length // 8:
            continue
        cut = [_cut(tokenizer, answer, room) for answer in answers]
        if all(cut) and cut[0] != cut[1]:
            rows.append({"prompt": before, "responses": cut})
    return tokenizer, rows[:count]


def _cut(tokenizer: PreTrainedTokenizerFast, text: str, room: int) -> str:
    """The beginning of `text` that has at most `room` tokens; empty where its cut end is tokenised another way."""
    ids = tokenizer(text)["input_ids"]
    if len(ids) <= room:
        return text
    short = tokenizer.decode(ids[:room])
    return short if tokenizer(short)["input_ids"] == ids[:room] else ""


def alpaca(file: Path, count: int, vocabulary: int) -> tuple[PreTrainedTokenizerFast, list[dict[str, Any]]]:
    """The first `count` rows of an Alpaca file in Alpaca's own wording, and a tokenizer learned from them."""
    rows = []
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            given = f"\n\n### Input:\n{row['input']}" if row["input"] else ""
            prompt = f"Below is an instruction that describes a task.\n\n### Instruction:\n{row['instruction']}{given}"
            if row["output"].strip():
                rows.append({"prompt": f"{prompt}\n\n### Response:", "responses": [" " + row["output"].strip()]})
            if len(rows) == count:
                break
    texts = (text for row in rows for text in (row["prompt"], *row["responses"]))
    return learned_tokenizer(texts, vocabulary), rows


def tokens(tokenizer: PreTrainedTokenizerFast, rows: list[dict[str, Any]]) -> int:
    """Tokens of all prompts and responses, each once."""
    return sum(
        len(tokenizer(row["prompt"])["input_ids"])
        + sum(len(tokenizer(text)["input_ids"]) + 1 for text in row.get("responses", ()))
        for row in rows
    )
