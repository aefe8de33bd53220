"""Perspective API against a server on this machine, and suites that stand on a scorer of toxicity."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from judges import Says

from jsonl import write
from kilter.errors import KilterError
from kilter.evaluation import harmprompts as hp
from kilter.evaluation import perspective as p
from kilter.evaluation import trustgpt as t
from kilter.models.drive import wait


def served(answers, ask):
    """Run `ask(address)` against a server that gives `answers` (status, JSON) one after the other."""
    asked = []

    async def handle(request):
        asked.append(await request.json())
        status, body = answers[min(len(asked), len(answers)) - 1]
        return web.json_response(body, status=status)

    async def whole():
        app = web.Application()
        app.router.add_post("/analyze", handle)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]
        try:
            return await ask(f"http://127.0.0.1:{port}/analyze")
        finally:
            await runner.cleanup()

    return asyncio.run(whole()), asked


def said(value) -> dict:
    return {"attributeScores": {"TOXICITY": {"summaryScore": {"value": value}}}}


def test_a_score_is_asked_for_once_and_kept_by_text_attribute_and_day(tmp_path):
    cache = tmp_path / "p.jsonl"

    async def ask(address):
        one = p.Perspective("key", address=address, cache=cache, a_second=1000, today="2026-01-01")
        first, again = await one.score("text"), await one.score("text")
        assert (one.requests, one.hits) == (1, 1)
        other = p.Perspective("key", address=address, cache=cache, a_second=1000, today="2026-01-01")
        kept = await other.score("text")
        assert (other.requests, other.hits) == (0, 1)
        later = p.Perspective("key", address=address, cache=cache, a_second=1000, today="2026-01-02")
        await later.score("text")
        return first, again, kept, later.requests

    (first, again, kept, requests), asked = served([(200, said(0.25))], ask)
    assert first.value == again.value == kept.value == 0.25
    assert requests == 1  # another day, another model of theirs
    assert asked[0]["requestedAttributes"] == {"TOXICITY": {}}


def test_a_service_that_is_away_or_talks_nonsense_gives_no_score_and_is_not_clean():
    async def ask(address):
        one = p.Perspective("key", address=address, a_second=1000, tries=2, wait=0.01)
        return [await one.score(f"text {k}") for k in range(4)], one.requests

    answers = [(503, {}), (200, said(0.5)), (429, {}), (429, {}), (200, {"odd": 1}), (200, said("NaN"))]
    (found, requests), _ = served(answers, ask)
    assert [one.ok for one in found] == [True, False, False, False]
    assert found[0].value == 0.5  # after it was asked again
    assert found[1].value is None
    assert "429" in found[1].why
    assert requests == 6
    assert "3 of 4 texts could not be scored and are not taken for clean" in p.failures(found)[0]

    async def gone(address):
        return await p.Perspective("key", address="http://127.0.0.1:9/x", a_second=1000, tries=1).score("text")

    assert not served([(200, {})], gone)[0].ok

    async def refused(address):
        return await p.Perspective("key", address=address, a_second=1000).score("text")

    with pytest.raises(KilterError, match="refuses the key"):
        served([(403, {})], refused)


def test_keys_and_attributes_are_checked(monkeypatch):
    monkeypatch.delenv(p.KEY, raising=False)
    with pytest.raises(KilterError, match="needs a key"):
        p.Perspective()
    with pytest.raises(KilterError, match="no attribute 'RUDE'"):
        wait(p.Perspective("key").score("x", "RUDE"))


class Counts:
    """A scorer: a tenth for each "bad" in the text; says nothing of one with "odd" in it."""

    name = "counts"

    async def score(self, text, attribute="TOXICITY"):
        if "odd" in text:
            return p.Scored(text, attribute, None, False, self.name, "", "odd")
        return p.Scored(text, attribute, min(1.0, text.count("bad") / 10), True, self.name, "")


def test_stored_texts_are_scored_by_a_judge_in_the_services_place(tmp_path, monkeypatch):
    judge = Says(lambda m, s, k: "9" if "bad" in m[-1].content else "none of it" if "odd" in m[-1].content else "1")
    monkeypatch.setattr(p, "load", lambda name: judge)
    rows = [{"text": "bad"}, {"text": "fine"}, {"text": "odd"}]
    found = wait(p.perspective(data=write(tmp_path / "t.jsonl", rows), scorer="j"))
    assert found.measures["toxicity"].value == pytest.approx(0.5)
    assert found.measures["toxic_share"].value == 0.5
    assert found.measures["scored"].value == pytest.approx(2 / 3)
    assert "1 of 3 texts could not be scored" in found.notes[0]


def test_the_worst_of_several_continuations_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(hp, "scorer_of", lambda *a, **k: Counts())
    model = Says(
        lambda m, s, k: "odd" if "strange" in m[-1].content and k == 1 else "bad " * (k + int(m[-1].content[-1]))
    )
    rows = [
        {"prompt": "about them 0", "category": "x"},
        {"prompt": "about us 5", "category": "y"},
        {"prompt": "strange 9"},
    ]
    found = wait(hp.harmprompts(model, questions=write(tmp_path / "h.jsonl", rows), k=3))
    assert found.measures["expected_max"].value == pytest.approx((0.2 + 0.7) / 2)
    assert found.measures["toxic_any"].value == 0.5
    assert found.measures["toxic_fraction"].value == 0.5
    assert found.measures["y:expected_max"].value == pytest.approx(0.7)
    assert any("1 of 3 prompts are left out" in note for note in found.notes)


# ------------------------------------------------------------------------------------------------------------ TrustGPT


def test_trustgpts_refusals_are_nine_words():
    assert len(t.REFUSALS) == 9
    assert t.refuses("I'm Sorry, no.")
    assert t.refuses("I can’t do that")
    assert not t.refuses("They are all bad")


def test_toxicity_and_refusals_by_norm(tmp_path, monkeypatch):
    monkeypatch.setattr(t, "scorer_of", lambda *a, **k: Counts())
    rows = [{"norm": "lying"}, {"norm": "helping"}, {"norm": "odd things"}]
    answers = {"lying": "bad bad bad bad", "helping": "I am sorry", "odd": "odd"}
    model = Says(lambda m, s, k: next(v for name, v in answers.items() if name in m[-1].content))
    found = wait(t.trustgpt(model, data=write(tmp_path / "n.jsonl", rows)))
    assert found.measures["toxicity"].value == pytest.approx(0.2)
    assert found.measures["refuses"].value == pytest.approx(1 / 3)
    assert any("1 of 3 texts could not be scored" in note for note in found.notes)


def test_the_spread_over_groups_is_nothing_where_they_are_treated_alike(tmp_path, monkeypatch):
    monkeypatch.setattr(t, "scorer_of", lambda *a, **k: Counts())
    path = write(tmp_path / "n.jsonl", [{"norm": f"norm {at}"} for at in range(12)])
    alike = wait(t.trustgpt(Says(lambda *_: "bad bad"), data=path, part="bias"))
    assert alike.measures["spread"].value == 0
    assert "does not differ" in alike.notes[0]
    partial = Says(lambda m, s, k: "bad " * (8 if "women" in m[-1].content else 2))
    found = wait(t.trustgpt(partial, data=path, part="bias"))
    assert found.measures["spread"].value == pytest.approx(0.3)  # of 0.8 and 0.2, over the population of two
    assert found.measures["toxicity:women"].value == pytest.approx(0.8)
    assert "differs" in found.notes[0]
    one = {"a": [0.1, 0.9], "b": [0.9, 0.1, 0.4]}
    assert t.tests(one)[0].split("p = ")[1] == t.tests(dict(reversed(one.items())))[0].split("p = ")[1]  # symmetrical


def test_values_softly_and_hard(tmp_path):
    rows = [{"norm": "a1", "label": "good"}, {"norm": "b1", "label": -2}, {"norm": "c1", "label": 0}, {"norm": "d1"}]
    model = Says(lambda m, s, k: {"a": "[[A]]", "b": "[[B]]", "c": "maybe"}[m[-1].content.split("\n\n")[1][0]])
    found = wait(t.trustgpt(model, data=write(tmp_path / "n.jsonl", rows), part="values"))
    assert found.measures["hard_accuracy"].value == 0.5
    assert found.measures["soft_accuracy"].value == 1.0
    assert any("1 of 3 replies say neither" in note for note in found.notes)
    assert any("1 of 4 norms left out" in note for note in found.notes)
