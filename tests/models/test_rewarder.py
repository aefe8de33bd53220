"""A reward model that is asked: batched together, each response judged by itself, troubles told apart."""

import asyncio

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from kilter.errors import KilterError, SetAside
from kilter.models.load import load_value_model
from kilter.models.protocol import Sampling
from kilter.models.rewarder import Rewarder
from kilter.records import Message

PROMPT = [Message("user", "what is the colour of the sky?")]


@pytest.fixture(scope="module")
def folder(tiny_model, tmp_path_factory):
    """A reward model with a random head."""
    path = tmp_path_factory.mktemp("judge")
    model, tokenizer = load_value_model(str(tiny_model))
    torch.manual_seed(0)
    torch.nn.init.normal_(model.score.weight)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def test_what_is_asked_together_is_answered_as_if_alone(folder):
    model = Rewarder(str(folder))
    asked = [([Message("user", f"what is {i}?")], f"it is {j}.") for i in range(4) for j in range(3)]

    async def together():
        return await asyncio.gather(*(model.reward(*one) for one in asked))

    found = asyncio.run(together())
    alone = [asyncio.run(model.reward(*one)) for one in asked]
    assert found == pytest.approx(alone, abs=2e-5)
    assert len(set(found)) == len(found)
    assert model.tokens > 0


def test_steps_and_wholes_may_be_asked_at_once(folder):
    model = Rewarder(str(folder))
    steps = ["it is", "blue", "not red."]

    async def together():
        return await asyncio.gather(
            model.steps(PROMPT, steps), model.reward(PROMPT, "\n".join(steps)), model.steps(PROMPT, steps[:1])
        )

    parts, whole, first = asyncio.run(together())
    assert len(parts) == 3
    assert all(0 < part < 1 for part in parts)
    assert len(first) == 1
    assert isinstance(whole, float)
    with pytest.raises(KilterError, match="without steps"):
        asyncio.run(model.steps(PROMPT, []))


def test_a_response_that_does_not_fit_leaves_the_others_alone(folder):
    model = Rewarder(str(folder))

    async def together():
        asked = (model.reward(PROMPT, text) for text in ("blue", "x" * 1000))
        return await asyncio.gather(*asked, return_exceptions=True)

    fine, trouble = asyncio.run(together())
    assert fine == pytest.approx(asyncio.run(model.reward(PROMPT, "blue")), abs=2e-5)
    assert isinstance(trouble, SetAside)
    assert "cannot be judged" in str(trouble)
    assert "over 256 tokens" in str(trouble)


def test_a_long_conversation_is_cut_from_the_left(folder):
    model = Rewarder(str(folder))
    long = [Message("user", "sky " * 400), Message("assistant", "yes"), *PROMPT]
    assert isinstance(asyncio.run(model.reward(long, "blue")), float)


def test_a_number_that_is_none_is_an_error(folder, tmp_path):
    model = Rewarder(str(folder))
    with torch.no_grad():
        model.model.score.weight[0, 0] = float("nan")
    with pytest.raises(KilterError, match="nan"):
        asyncio.run(model.reward(PROMPT, "blue"))


def test_it_neither_writes_nor_has_log_probs(folder):
    model = Rewarder(str(folder))
    with pytest.raises(KilterError, match="writes no text"):
        asyncio.run(model.ask(PROMPT, Sampling()))
    with pytest.raises(KilterError, match="has no log-probs"):
        asyncio.run(model.score(PROMPT, "blue"))


def test_bf16_is_near(folder):
    exact = asyncio.run(Rewarder(str(folder)).reward(PROMPT, "blue"))
    near = asyncio.run(Rewarder(str(folder), dtype=torch.bfloat16).reward(PROMPT, "blue"))
    plain = AutoModelForSequenceClassification.from_pretrained(folder)
    size = plain.score.weight.detach().norm().item()
    assert abs(exact - near) < 0.05 * size
