"""Plain text: continued and weighed without a chat template, as a plain forward of the model would have it."""

from __future__ import annotations

import asyncio

import pytest
import torch

from kilter.engine.weigher import Pair
from kilter.errors import SetAside
from kilter.models import plain
from kilter.models.desk import Desk
from kilter.models.journalled import Journalled
from kilter.models.load import load
from kilter.models.local import Local
from kilter.models.protocol import Sampling
from kilter.store.journal import Journal


@pytest.fixture(scope="module")
def local(tiny_model) -> Local:
    return Local(str(tiny_model))


def by_hand(local: Local, before: list[int], after: list[int]) -> float:
    row = torch.tensor([[*before, *after]])
    with torch.no_grad():
        logs = torch.log_softmax(local.model(row).logits[0], -1)
    return sum(logs[len(before) - 1 + i, token].item() for i, token in enumerate(after))


def test_weights_are_those_of_a_plain_forward(local: Local) -> None:
    tell: list[int] = []
    pairs = [("the colour of", " the sky"), ("the colour of ", "the sky"), ("", "what is"), ("what", " is it")]
    found = asyncio.run(local.weigh([*pairs, ("it is blue.", None)], progress=tell.append))

    def encode(text: str) -> list[int]:
        return local.tokenizer(text)["input_ids"]

    context = encode("the colour of")
    whole = encode("the colour of the sky")
    assert found[0].logprob == pytest.approx(by_hand(local, context, whole[len(context) :]), abs=1e-4)
    assert found[1] == found[0]  # a space at the end of the context belongs to the continuation
    assert found[2].logprob == pytest.approx(by_hand(local, [0], encode("what is")), abs=1e-4)
    assert found[4].logprob == pytest.approx(by_hand(local, [0], encode("it is blue.")), abs=1e-4)
    assert tell[-1] == 5


def test_what_cannot_be_weighed_says_so_and_leaves_the_others_alone(local: Local) -> None:
    found = asyncio.run(local.weigh([("a", ""), ("a", "b" * 400), ("a " * 400, "b")]))
    assert [isinstance(one, SetAside) for one in found] == [True, True, False]
    assert "no tokens of its own" in str(found[0])
    assert "256 positions" in str(found[1])


def test_a_long_context_is_cut_and_a_long_text_goes_in_windows(local: Local) -> None:
    ids = plain.ids(local.tokenizer, ["x " * 300 + "end"])[0]
    [pair, other], cut = plain.encode(local.tokenizer, [("x " * 300 + "e", "nd"), ("x", "y")], 256)
    assert cut == 1
    assert isinstance(other, Pair)
    assert len(pair.context) + len(pair.continuation) == 257
    windows = plain.windows(local.tokenizer, "x " * 300 + "end", 256)
    assert [token for window in windows for token in window.continuation] == ids
    assert all(len(w.context) + len(w.continuation) <= 257 for w in windows)
    assert len(windows[-1].context) > 1


def test_continuations_keep_their_spaces_and_stop(local: Local) -> None:
    async def both() -> tuple:
        raw = await local.complete("what is the", Sampling(max_tokens=12, logprobs=True))
        cut = await local.complete("what is the", Sampling(max_tokens=12, stop=(raw[0].text[4:6],)))
        return raw[0], cut[0]

    raw, cut = asyncio.run(both())
    ids = plain.ids(local.tokenizer, ["what is the"])[0]
    with torch.no_grad():
        made = local.model.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False, pad_token_id=0)
    text = local.tokenizer.decode(made[0, len(ids) :], skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert raw.text == text
    assert cut.text == text[: text.find(text[4:6])]


def test_what_was_said_of_plain_text_is_kept(tiny_model, tmp_path) -> None:
    """A run that is given again computes nothing twice, and nobody who takes no plain text is said to."""
    pairs = [("what is", " it"), ("what is", " the sky"), ("a", "")]
    sampling = Sampling(max_tokens=5)

    def once() -> tuple:
        with Desk(tmp_path / "journal", local=True) as desk:
            model = load(str(tiny_model))

            async def asked() -> tuple:
                return await model.weigh(pairs), await model.complete("what is", sampling)

            found = asyncio.run(asked())
            return found, model.model.usage.tokens, desk.replayed

    first, spent, replayed = once()
    again, nothing, kept = once()
    assert [tuple(one) for one in again[0][:2]] == [tuple(one) for one in first[0][:2]]
    assert isinstance(again[0][2], SetAside)
    assert again[1][0].text == first[1][0].text
    assert (spent > 0, nothing) == (True, 0)
    assert (replayed, kept) == (0, 3)

    class Chats:
        name = "chats"

    assert not hasattr(Journalled(Chats(), Journal(tmp_path / "other")), "weigh")
