"""A model whose answers are kept: what is asked once, what is asked anew."""

import asyncio

import pytest

from kilter.errors import KilterError, SetAside
from kilter.models.budget import parse_budget, parse_price
from kilter.models.desk import Desk
from kilter.models.journalled import Journalled
from kilter.models.load import load
from kilter.models.local import Local
from kilter.models.mixed import Mixed, is_mixture, members, parts, split
from kilter.models.protocol import Answer, Sampling
from kilter.prompts import Asked
from kilter.records import Message
from kilter.store.journal import Journal


class Scripted:
    """Answers with what it was asked and how often it was asked anything; refuses what says so."""

    def __init__(self, name="scripted"):
        self.name = name
        self.asked = []

    async def ask(self, messages, sampling):
        self.asked.append(messages[-1].content)
        await asyncio.sleep(0)
        if "refuse" in messages[-1].content:
            raise SetAside("It will not; ask otherwise.", "refused")
        if "fail" in messages[-1].content:
            raise KilterError("The server is gone; start it.")
        text = f"{self.name} {messages[-1].content} {len(self.asked)}"
        return [Answer(f"{text} {k}", 3, [-0.1, -1 / 3], "stop") for k in range(sampling.n)]

    async def score(self, messages, response):
        self.asked.append(response)
        return [-0.1] * len(response)


def user(text):
    return [Message("user", text)]


def run(path, use, model=None, **options):
    """Run `use(journalled)` over the journal at `path`; returns what it gives, and what the model was asked."""
    model = model or Scripted()
    with Journal(path) as journal:
        kept = Journalled(model, journal, **options)
        found = asyncio.run(use(kept))
        kept.close()
    return found, model.asked


def test_what_was_answered_is_not_asked_again(tmp_path):
    async def use(model):
        return [await model.ask(user(text), Sampling(n=2, logprobs=True)) for text in ("a", "b", "a")]

    first, asked = run(tmp_path / "j", use)
    assert asked == ["a", "b"]
    assert first[0] == first[2]
    assert first[0][0] == Answer("scripted a 1 0", 3, [-0.1, -1 / 3], "stop", "scripted")
    again, asked = run(tmp_path / "j", use)
    assert again == first
    assert asked == []


def test_whatever_shapes_the_request_makes_it_another(tmp_path):
    asked = [
        (user("a"), Sampling()),
        ([Message("system", "s"), *user("a")], Sampling()),
        ([Message("assistant", "a")], Sampling()),
        (user("a "), Sampling()),
        *(
            (user("a"), Sampling(**{name: value}))
            for name, value in [
                ("max_tokens", 65), ("temperature", 0.5), ("top_p", 0.9), ("top_k", 3), ("min_p", 0.1), ("n", 2),
                ("seed", 1), ("stop", ("x",)), ("logprobs", True),
            ]
        ),
        (Asked(user("a"), "version 1"), Sampling()),
        (Asked(user("a"), "version 2"), Sampling()),
    ]  # fmt: skip

    async def use(model):
        for _ in range(2):
            for messages, sampling in asked:
                await model.ask(messages, sampling)
        await model.score(user("a"), "x")
        await model.score(user("a"), "x")

    _, told = run(tmp_path / "j", use)
    assert len(told) == len(asked) + 1
    _, told = run(tmp_path / "j", use, Scripted("another"))
    assert len(told) == len(asked) + 1


def test_the_same_question_under_way_is_one_request(tmp_path):
    async def use(model):
        return await asyncio.gather(*(model.ask(user("a"), Sampling()) for _ in range(9)))

    found, asked = run(tmp_path / "j", use)
    assert asked == ["a"]
    assert all(answer == found[0] for answer in found)


def test_a_refusal_is_heard_once_a_run_and_a_failure_is_no_answer(tmp_path):
    async def use(model):
        told = []
        for text in ("refuse", "refuse", "fail", "fail"):
            with pytest.raises(KilterError) as caught:
                await model.ask(user(text), Sampling())
            told.append((type(caught.value), getattr(caught.value, "rule", None)))
        return told

    for _ in range(2):
        told, asked = run(tmp_path / "j", use)
        assert told == [(SetAside, "refused")] * 2 + [(KilterError, None)] * 2
        assert asked == ["refuse", "fail", "fail"]


def test_those_who_wait_for_a_question_that_fails_ask_for_themselves(tmp_path):
    async def use(model):
        return await asyncio.gather(*(model.ask(user("fail"), Sampling()) for _ in range(3)), return_exceptions=True)

    found, asked = run(tmp_path / "j", use)
    assert [str(error) for error in found] == ["The server is gone; start it."] * 3
    assert asked == ["fail"] * 3


def test_the_account_is_kept_across_runs(tmp_path):
    async def use(model):
        await model.ask(user("a"), Sampling(n=2))
        await model.ask(user(str(model.usage.requests)), Sampling())
        return model.usage, model.tokens, model.replayed

    (usage, tokens, replayed), _ = run(tmp_path / "j", use)
    assert (usage.requests, usage.completion_tokens, tokens, replayed) == (2, 9, 9, 0)
    (usage, tokens, replayed), _ = run(tmp_path / "j", use)
    assert (usage.requests, usage.completion_tokens, tokens, replayed) == (3, 12, 12, 1)
    (usage, tokens, _), _ = run(tmp_path / "j", use, purpose="another stage")
    assert usage.requests == 1


def test_a_check_stops_questions_and_not_answers(tmp_path):
    def enough():
        raise KilterError("Enough.")

    async def use(model):
        return await model.ask(user("a"), Sampling())

    first, _ = run(tmp_path / "j", use)
    assert run(tmp_path / "j", use, check=enough) == (first, [])

    async def other(model):
        with pytest.raises(KilterError, match="Enough"):
            await model.ask(user("b"), Sampling())

    assert run(tmp_path / "j", other, check=enough)[1] == []


def test_other_weights_under_the_same_name_are_another_model(tmp_path, tiny_model):
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)

    async def use(model):
        return await model.ask(user("what is the colour"), Sampling(max_tokens=4))

    def asked():
        local = Local(str(folder), device="cpu")
        with Journal(tmp_path / "j") as journal:
            asyncio.run(use(Journalled(local, journal)))
        return local.usage.requests

    assert asked() == 1
    assert asked() == 0
    (folder / "model.safetensors").touch()
    assert asked() == 1


# ------------------------------------------------------------------------------------------------------------- mixed


def test_a_mixture_asks_by_weight_and_always_the_same(tmp_path):
    def shares(*weighted):
        models = [Scripted(name) for name, _ in weighted]
        mixed = Mixed(list(zip(models, [weight for _, weight in weighted], strict=True)))
        chosen = [mixed.chosen(user(f"question {i}"), Sampling()).name for i in range(2000)]
        return mixed, chosen

    mixed, first = shares(("a", 3.0), ("b", 1.0))
    assert mixed.name == "a*3,b"
    assert first.count("a") / 2000 == pytest.approx(0.75, abs=0.03)
    assert shares(("a", 3.0), ("b", 1.0))[1] == first
    assert shares(("b", 1.0), ("a", 3.0))[1] == first
    # One more model takes over its share and moves nothing else.
    _, more = shares(("a", 3.0), ("b", 1.0), ("c", 1.0))
    assert {new for old, new in zip(first, more, strict=True) if old != new} == {"c"}
    assert more.count("c") / 2000 == pytest.approx(0.2, abs=0.03)


def test_answers_say_who_wrote_them_and_each_model_is_kept_by_itself(tmp_path):
    a, b = Scripted("a"), Scripted("b")

    async def use(model):
        return [(await model.ask(user(f"q {i}"), Sampling()))[0].model for i in range(40)]

    def ask(*weighted):
        with Desk(tmp_path / "j", local=True) as desk:
            mixed = Mixed([(desk.attend(model), weight) for model, weight in weighted])
            return asyncio.run(use(mixed)), mixed.usage.requests

    wrote, requests = ask((a, 1.0), (b, 1.0))
    assert requests == 40
    assert set(wrote) == {"a", "b"}
    before = len(a.asked) + len(b.asked)
    moved, _ = ask((a, 1.0), (b, 4.0))
    assert len(a.asked) + len(b.asked) - before == sum(x != y for x, y in zip(wrote, moved, strict=True)) > 0


def test_names_of_mixtures(tiny_model, tmp_path):
    assert split("a*3, http://h:1/v1#m,b*0.5") == [("a", 3.0), ("http://h:1/v1#m", 1.0), ("b", 0.5)]
    assert parts("a*3,b") == ["a", "b"]
    assert parts("http://h:1/v1#m") == ["http://h:1/v1#m"]
    (tmp_path / "a,b").mkdir()
    assert not is_mixture(str(tmp_path / "a,b"))
    for wrong, says in [("a*x,b", "has the weight 'x'"), ("a,", "empty part"), ("a*0,b", "weights above 0")]:
        with pytest.raises(KilterError, match=says):
            Mixed([(Scripted(name), weight) for name, weight in split(wrong)])
    mixed = load(f"{tiny_model}*2,http://127.0.0.1:9/v1#m")
    assert [type(model).__name__ for model in members(mixed)] == ["Local", "Server"]
    with pytest.raises(KilterError, match="has no log-probs of its own"):
        asyncio.run(mixed.score(user("a"), "b"))


# ------------------------------------------------------------------------------------------------------------ budgets


def test_budgets_and_prices():
    price = parse_price("0.5,2")
    assert (price.prompt, price.completion) == (0.5, 2.0)
    assert parse_price("3").completion == 3.0
    for text, tokens in [
        ("2M tokens", 2e6),
        ("500k tokens", 5e5),
        ("1,000 tokens", 1000),
        ("7t", 7),
        ("1.5m token", 1.5e6),
    ]:
        assert parse_budget(text, None).tokens == tokens
    assert parse_budget("3.50", price).money == 3.5
    assert parse_budget(None, None) is parse_price(None) is None
    for text in ("much", "2 M", "-1 tokens"):
        with pytest.raises(KilterError, match=r"is no budget; write 2M tokens"):
            parse_budget(text, price)
    with pytest.raises(KilterError, match="takes a --price"):
        parse_budget("3.50", None)
    for text in ("cheap", "1,-2", "", "1;2"):
        with pytest.raises(KilterError, match="is no price"):
            parse_price(text)
