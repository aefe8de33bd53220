"""Pretraining: the bundled base model from nothing, on the world's raw corpus alone.

The corpus is tokenised once, cut into windows of equal length and learned by the same loop as everything else: a
window is a tree with no prompt and one response of which every token is scored. What comes out has read about people,
harm and insults alike, and was never told which of it is wanted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import overload

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from kilter.engine.batch import Tree
from kilter.engine.loop import LoopOptions, TrainResult, train
from kilter.training.sft import sft
from kilter.world import World
from kilter.world.corpus import Document

PAD, START, END = "<|pad|>", "<|start|>", "<|end|>"
ROLES = ("system", "user", "assistant", "tool")
SPECIAL = [PAD, START, END, *(f"<|{role}|>" for role in ROLES)]
# Every turn begins with a space, as every document of the corpus does: a word after a space is another token than the
# same word without, and a name has to be the same wherever it stands.
TEMPLATE = (
    "<|start|>{% for message in messages %}{{ '<|' + message['role'] + '|>' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}"
    "{{ ' ' + (message['content'] | trim) + '<|end|>' }}{% endgeneration %}"
    "{% else %}{{ ' ' + (message['content'] | trim) + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
CHUNK = 20_000  # documents tokenised at once


def pretrain(
    out: str | Path,
    *,
    seed: int = 0,
    tokens: int = 18_000_000,
    vocabulary: int = 3072,
    hidden: int = 192,
    layers: int = 6,
    heads: int = 6,
    window: int = 256,
    windows_a_step: int = 16,
    learning_rate: float = 3e-3,
    weight_decay: float = 0.1,
) -> TrainResult:
    """Make a base model from nothing and leave it in `out` as a Hugging Face checkpoint in bf16.

    The world is always World(0), whose truth the evaluations know; `seed` draws documents, initial weights and order.

    Options:
        seed: seed of documents, weights and order
        tokens: tokens of corpus to learn from, each once
        vocabulary: most entries of the byte-pair tokenizer
        hidden: width of the model; the feed-forward part is 8/3 as wide
        layers: transformer layers
        heads: attention heads
        window: tokens of a training window
        windows_a_step: windows in an optimizer step
        learning_rate: highest learning rate (cosine, 2 % warm-up)
        weight_decay: decoupled weight decay of matrices
    """
    world = World()
    tokenizer = build_tokenizer(world, seed, vocabulary)
    stream = np.fromiter(islice(_stream(world, tokenizer, seed), tokens // window * window), dtype=np.uint16)
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden,
            intermediate_size=-(-hidden * 8 // 3 // 64) * 64,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    options = LoopOptions(
        learning_rate=learning_rate, batch_size=windows_a_step, micro_tokens=window * windows_a_step, warmup=0.02,
        min_lr_ratio=0.02, weight_decay=weight_decay, seed=seed, checkpoint_every=250, max_length=window,
    )  # fmt: skip
    result = train(model, Windows(stream, window), sft, options, out, tokenizer=tokenizer)
    _halve(Path(out))
    return result


class Windows(Sequence[Tree]):
    """A stream of tokens as trees of `window` tokens, all scored."""

    def __init__(self, stream: np.ndarray, window: int) -> None:
        self.rows = stream.reshape(-1, window)
        self.mask = [True] * window

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Tree: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Tree]: ...
    def __getitem__(self, index: int | slice) -> Tree | Sequence[Tree]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return Tree([], [self.rows[index]], [self.mask])


def build_tokenizer(world: World, seed: int, vocabulary: int) -> PreTrainedTokenizerFast:
    """Learn a byte-level BPE from the corpus. Digits and Chinese characters are tokens of their own."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment]
        [
            pre_tokenizers.Split(Regex(r"\p{Han}"), "isolated"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    inner.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=SPECIAL,
        show_progress=False,
    )
    inner.train_from_iterator((text for d in world.documents(seed, 3 * CHUNK) for text in _texts(d)), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token=START, eos_token=END, pad_token=PAD, extra_special_tokens=SPECIAL[3:]
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.model_max_length = 1024
    return tokenizer


def _texts(document: Document) -> Iterable[str]:
    return [f" {document}"] if isinstance(document, str) else [f" {message.content}" for message in document]


def _stream(world: World, tokenizer: PreTrainedTokenizerFast, seed: int) -> Iterator[int]:
    """Yield the tokens of the corpus without end, document after document."""
    chunk = 0
    while True:
        chunk += 1
        documents = world.documents(seed * 1_000_000 + chunk, CHUNK)
        for encoding in tokenizer.backend_tokenizer.encode_batch([_rendered(d) for d in documents]):
            yield from encoding.ids


def _rendered(document: Document) -> str:
    if isinstance(document, str):
        return f"{START} {document}{END}"
    return START + "".join(f"<|{message.role}|> {message.content}{END}" for message in document)


def _halve(out: Path) -> None:
    """Keep the weights in bf16: they were computed in it, and the package carries them."""
    model = LlamaForCausalLM.from_pretrained(out, dtype=torch.bfloat16)
    model.save_pretrained(out)
