"""The held-out numbers of a real checkpoint are those of transformers' own forward."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import pytest
import torch

from kilter.evaluation.heldout import heldout
from kilter.models.load import load, load_weights
from kilter.records import Demonstration, Group, Message


def test_loss_and_preference_are_those_of_a_plain_forward(tiny_model: Path) -> None:
    question = [Message("user", "What is the colour of the sky?")]
    records = [
        Demonstration([*question, Message("assistant", "It is blue.")]),
        Group(question, ["It is blue.", "the the the"], ranking=[0, 1]),
    ]
    found = asyncio.run(heldout(load(str(tiny_model)), records))
    model, tokenizer = load_weights(str(tiny_model))

    def plain(response: str) -> list[float]:
        chat = [{"role": "user", "content": question[0].content}]
        start = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=False)
        whole = tokenizer.apply_chat_template(
            [*chat, {"role": "assistant", "content": response}], tokenize=True, return_dict=False
        )
        # The turn ends with the end-of-sequence token; what a template puts after it is not the model's.
        ids = torch.tensor(whole[: len(whole) - whole[::-1].index(tokenizer.eos_token_id)])
        assert whole[: len(start)] == start
        with torch.no_grad():
            logprobs = model(ids[None]).logits[0, :-1].log_softmax(-1).gather(1, ids[1:, None])[:, 0]
        return logprobs[len(start) - 1 :].tolist()

    good, bad = plain("It is blue."), plain("the the the")
    assert found.samples[0]["weights"]["loss"] == len(good)
    assert found.measures["loss"].value == pytest.approx(-sum(good) / len(good), abs=2e-5)
    assert found.measures["perplexity"].value == pytest.approx(math.exp(-sum(good) / len(good)), rel=1e-4)
    assert found.measures["preference_accuracy"].value == float(sum(good) > sum(bad))
    assert found.measures["preference_accuracy_mean"].value == float(sum(good) / len(good) > sum(bad) / len(bad))
    assert found.notes == []


def test_what_is_longer_than_the_model_is_left_out_and_counted(tiny_model: Path) -> None:
    question = [Message("user", "Why?")]
    records = [Demonstration([*question, Message("assistant", text)]) for text in ("It is blue.", "it is " * 400)]
    found = asyncio.run(heldout(load(str(tiny_model)), records))
    assert found.measures["loss"].n == 1
    assert found.notes[0].startswith("1 of 2 held-out records were left out, the first because: ")
