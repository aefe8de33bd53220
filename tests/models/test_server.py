"""The client of OpenAI-compatible servers, against a server that fails as real ones do."""

import asyncio
import json
import warnings

import pytest
from aiohttp import web
from fake_server import FakeServer, serving

from kilter.errors import KilterError, SetAside
from kilter.models import line, server
from kilter.models import patience as patience_module
from kilter.models.load import load
from kilter.models.protocol import Sampling
from kilter.models.server import Server
from kilter.records import Message

ASKED = [Message("system", "be brief"), Message("user", "hello there")]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(line, "FIRST_PAUSE", 0.01)
    for name in server.KEYS:
        monkeypatch.delenv(name, raising=False)


def talk(server, use, name="#echo-1", **options):
    """Run `use(model)` against `server`."""

    async def main():
        async with serving(server) as address:
            return await use(Server(address + name, **options))

    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        return asyncio.run(main())


def ask(model):
    return model.ask(ASKED, Sampling(max_tokens=7, temperature=0.5, seed=3, stop=("END",), logprobs=True))


def test_an_answer_has_what_was_asked_for():
    server = FakeServer()
    [answer] = talk(server, ask)
    assert answer.text == "you said hello there"
    assert answer.logprobs == [-0.5] * 4
    assert (answer.tokens, answer.finish_reason) == (4, "stop")
    [body] = server.bodies
    assert body["messages"] == [message.to_json() for message in ASKED]
    assert body["model"] == "echo-1"
    assert (body["max_tokens"], body["temperature"], body["seed"], body["stop"]) == (7, 0.5, 3, ["END"])
    assert "top_k" not in body


@pytest.mark.parametrize(
    "trouble",
    [
        [429, 429],
        [503, 500, 502],
        ["drop", "drop"],
        [429, "drop", 503],
        ['{"choices": [{"mess', "[]", "null", "<html>"],
    ],
)
def test_what_passes_is_tried_again(trouble):
    server = FakeServer(trouble)
    [answer] = talk(server, ask)
    assert answer.text == "you said hello there"
    assert len(server.bodies) == len(trouble) + 1


def test_a_slow_answer_is_asked_for_again():
    server = FakeServer(["slow"])
    assert talk(server, ask, timeout=0.3)[0].text == "you said hello there"
    assert len(server.bodies) == 2


def settled(model):
    """Have the client know that answers come at once."""
    patience = model._line().patience
    patience._took[Sampling().max_tokens].extend([0.001] * patience_module.SEEN)


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(patience_module, "LEAST", 0.01)
    monkeypatch.setattr(patience_module, "LOOK", 0.01)
    monkeypatch.setattr(patience_module, "COPIES", 1)


def test_beside_what_hangs_a_copy_is_sent_and_both_are_counted(impatient):
    server = FakeServer(["hang"])

    async def use(model):
        await model.identity()
        settled(model)
        return await model.ask([Message("user", "one two three")], Sampling()), model.usage

    [answer], usage = talk(server, use)
    assert answer.text == "you said one two three"
    assert len(server.bodies) == 2
    assert server.bodies[0] == server.bodies[1]
    assert (usage.requests, usage.retries, usage.unheard) == (2, 1, 1)
    assert (usage.prompt_tokens, usage.completion_tokens) == (2 * 3, 2 * 5)


def test_an_answer_that_is_merely_slow_is_not_given_up(impatient):
    """The copy hangs as well: what is answered in the end is the request that was sent first, or both at once."""
    server = FakeServer(["hang"] * 9)

    async def use(model):
        settled(model)
        answer = asyncio.create_task(model.ask([Message("user", "one")], Sampling()))
        while len(server.bodies) < 2:
            await asyncio.sleep(0.01)
        server.opened.set()
        return await answer

    [answer] = talk(server, use)
    assert answer.text == "you said one"
    assert len(server.bodies) == 2


def test_a_failure_that_stays_is_told():
    with pytest.raises(KilterError, match=r"failed 8 times in a row, last: 500: trouble 500; see its log"):
        talk(FakeServer([500] * 99), ask)


def test_many_requests_at_once_to_a_server_that_bears_few():
    server = FakeServer([429, "drop", 503], most=20)

    async def use(model):
        one = [model.ask([Message("user", f"number {i}")], Sampling()) for i in range(600)]
        return await asyncio.gather(*one), model

    answers, model = talk(server, use)
    assert [answer.text for [answer] in answers] == [f"you said number {i}" for i in range(600)]
    assert server.statuses[200] == 601  # the dropped one too, as the server sees it
    assert server.statuses[429] < 300
    assert model.tokens == 600 * 7


def test_one_answer_at_a_time_is_asked_for_again():
    server = FakeServer(one_at_a_time=True)
    answers = talk(server, lambda model: model.ask(ASKED, Sampling(n=3)))
    assert len(answers) == 3
    assert [(body["n"], body["seed"]) for body in server.bodies] == [(3, 0), (2, 1), (1, 2)]


def test_what_a_server_does_not_take_is_left_out():
    server = FakeServer(refuses=("logprobs", "max_tokens"))

    async def use(model):
        return await ask(model), await ask(model)

    [first], [second] = talk(server, use)
    assert first == second
    assert first.logprobs is None
    assert first.tokens == 5
    assert len(server.bodies) == 4
    assert server.bodies[-1]["max_completion_tokens"] == 7


def test_the_only_model_need_not_be_named():
    assert talk(FakeServer(), ask, name="")[0].text == "you said hello there"


def test_a_server_that_does_not_list_its_models_needs_one_to_be_named():
    class Mute(FakeServer):
        async def models(self, request):
            return web.Response(text="Internal Server Error", status=500)

    with pytest.raises(KilterError, match=r"does not say which models it has .*500.*; add # and the name") as told:
        talk(Mute(), ask, name="")
    assert not isinstance(told.value, SetAside)


def test_a_stop_text_that_the_server_leaves_on_is_taken_off():
    [answer] = talk(FakeServer(), lambda model: model.ask(ASKED, Sampling(stop=("there", "hello"))))
    assert answer.text == "you said"


def test_refusals_are_sentences(monkeypatch):
    with pytest.raises(KilterError, match=r"has no model 'echo-2'\. Did you mean 'echo-1'"):
        talk(FakeServer(), ask, name="#echo-2")
    with pytest.raises(KilterError, match=r"refuses a request \(400\): Unsupported parameter: 'temperature'"):
        talk(FakeServer(refuses=("temperature",)), ask)
    with pytest.raises(KilterError, match=r"another key \(401\); set KILTER_API_KEY"):
        talk(FakeServer(key="right"), ask)
    monkeypatch.setenv("OPENAI_API_KEY", "right")
    assert talk(FakeServer(key="right"), ask)[0].text
    monkeypatch.setenv("KILTER_API_KEY", "wrong")
    with pytest.raises(KilterError, match="another key"):
        talk(FakeServer(key="right"), ask)


def test_a_server_that_is_not_there_is_told_at_once():
    with pytest.raises(KilterError, match="No server answers at http://127"):
        asyncio.run(ask(load("http://127.0.0.1:9/v1#x")))
    with pytest.raises(KilterError, match="no address"):
        Server("http://#x")


def test_what_ends_the_run_and_what_sets_one_request_aside():
    """A refusal of this request leaves the others alone; a key, a bill or an absent model concerns them all."""
    for trouble, says in [
        ((400, "context length is 4096 tokens"), "refuses a request"),
        ((413, "too large"), "refuses a request"),
        ((422, "no"), "refuses"),
    ]:
        with pytest.raises(SetAside, match=says) as told:
            talk(FakeServer([trouble]), ask)
        assert told.value.rule == "refused"
    for trouble, says in [
        ((402, "add credit"), "wants to be paid first"),
        ((401, "no"), "another key"),
        ((429, "You exceeded your current quota (insufficient_quota)"), "account is used up"),
    ]:
        with pytest.raises(KilterError, match=says) as told:
            talk(FakeServer([trouble] * 9), ask)
        assert not isinstance(told.value, SetAside)


def test_what_keeps_failing_is_set_aside_until_all_fail(monkeypatch):
    with pytest.raises(SetAside, match="failed 8 times in a row, last: 500"):
        talk(FakeServer([500] * 8), ask)
    monkeypatch.setattr(line, "HOPELESS", 3)

    async def use(model):
        return await asyncio.gather(*(ask(model) for _ in range(5)), return_exceptions=True)

    found = talk(FakeServer([500] * 999), use)
    assert [isinstance(error, SetAside) for error in found].count(False) >= 3
    assert any("failed 3 requests in a row, last: 500" in str(error) for error in found)


def test_a_server_that_dies_is_told():
    async def main():
        async with serving(FakeServer()) as address:
            model = Server(address + "#echo-1")
            await ask(model)
        with pytest.raises(KilterError, match=r"answers no more \(.*\); start it again, then go on") as told:
            await ask(model)
        assert not isinstance(told.value, SetAside)

    asyncio.run(main())


def test_an_answer_of_ten_megabytes_is_not_read():
    huge = '{"choices": [{"message": {"content": "' + "x" * 10_000_000 + '"}}]}'
    with pytest.raises(SetAside, match=r"sent more than 1\.0 MiB") as told:
        talk(FakeServer([huge]), ask)
    assert told.value.rule == "too long"


@pytest.mark.parametrize(
    "reply", ['{"choices": [7]}', '{"choices": [{"message": {"content": [1]}}]}', '{"choices": {}}']
)
def test_an_answer_of_another_build_is_set_aside(reply):
    with pytest.raises(SetAside, match=r"not built like OpenAI's|sent no answer"):
        talk(FakeServer([reply]), ask)


def test_how_an_answer_ended():
    def reply(reason, content="well"):
        choice = {"message": {"content": content}, "finish_reason": reason}
        return json.dumps({"choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 3}})

    async def use(model):
        return [(await ask(model))[0].finish_reason for _ in range(4)], model.usage

    reasons = ["stop", "length", "content_filter", None]
    found, usage = talk(FakeServer([reply(reason) for reason in reasons]), use)
    assert found == ["stop", "length", "filter", "stop"]
    assert (usage.requests, usage.retries, usage.prompt_tokens, usage.completion_tokens) == (4, 0, 20, 12)
    assert talk(FakeServer([reply("stop", "half \ud83d")]), ask)[0].text == "half \ufffd"


def test_an_option_is_left_out_only_once_that_has_helped():
    """A refusal may quote the request, and with it the names of options that are not to blame."""
    quoted = (400, "messages: too long; input: {'seed': 3, 'logprobs': true}")
    server = FakeServer([quoted] * 2)

    async def use(model):
        with pytest.raises(SetAside, match="too long"):
            await ask(model)
        return await ask(model)

    [answer] = talk(server, use)
    assert answer.logprobs
    assert server.bodies[-1]["seed"] == 3


def test_a_proxy_is_looked_for_once(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert talk(FakeServer(), ask)[0].text
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(KilterError, match="No server answers"):
        talk(FakeServer(), ask)


def test_scores_are_those_of_the_response():
    server = FakeServer(prompt_logprobs=True)

    async def use(model):
        return [await model.score(ASKED, text) for text in ("a fine day", "no")]

    assert talk(server, use) == [[-1.0, -4.0, -3.0], [-2.0]]
    with pytest.raises(KilterError, match="does not tell the log-probs of a given text"):
        talk(FakeServer(), lambda model: model.score(ASKED, "a fine day"))
    refuses = FakeServer([None, (422, "Unexpected fields in the request: {'prompt_logprobs'}")])
    with pytest.raises(KilterError, match="does not tell the log-probs of a given text"):
        talk(refuses, lambda model: model.score(ASKED, "a fine day"))
    without = '{"choices": [{"message": {"content": "well"}}]}'
    with pytest.raises(KilterError, match="does not tell how many tokens a prompt has"):
        talk(FakeServer([without]), lambda model: model.score(ASKED, "a fine day"))
