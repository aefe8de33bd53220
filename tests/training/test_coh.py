"""Chains of hindsight: what is scored, what is hidden, how the checkpoint is asked, and what the words do."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from kilter.engine import collate
from kilter.engine.scorer import Scorer
from kilter.engine.template import trees as as_trees
from kilter.engine.turns import Turns
from kilter.errors import KilterError
from kilter.records import Demonstration, Group, Message
from kilter.training.coh import KINDS, chains, forgetful
from kilter.training.run import train
from worlds.tokens import TokenWorld

TALK = [Message("user", "hello"), Message("assistant", "yes?"), Message("user", "what is the sky?")]
PAIR = Group(TALK, ["it is blue", "no idea"], ranking=[0, 1])


@pytest.fixture
def fresh(tiny_model):
    """Returns a tokenizer as it is in the folder, whatever was done to another one's template."""
    return lambda: AutoTokenizer.from_pretrained(tiny_model)


def made(tokenizer, **options):
    records, notes = chains([PAIR], tokenizer, **{"kinds": "p,n,np,pn", "paraphrases": False} | options)
    assert not notes
    return records


def scored(tokenizer, tree):
    """Return the texts that are learned, one for each stretch of scored tokens."""
    tokens = [*tree.prompt, *tree.responses[0]]
    mask = [*(tree.prompt_mask or [False] * len(tree.prompt)), *tree.masks[0]]
    spans, open_ = [], False
    for token, learned in zip(tokens, mask, strict=True):
        if learned and not open_:
            spans.append([])
        if learned:
            spans[-1].append(token)
        open_ = learned
    return [tokenizer.decode(span).strip() for span in spans]


def test_every_kind_of_chain_is_scored_on_its_answers_alone(fresh):
    tokenizer = fresh()
    found = forgetful(as_trees(tokenizer, made(tokenizer)), tokenizer, hidden=0.0)
    end = tokenizer.eos_token
    good, bad = f"it is blue{end}", f"no idea{end}"
    wanted = {"p": [good], "n": [bad], "np": [bad, good], "pn": [good, bad]}
    assert [scored(tokenizer, tree) for tree in found] == [wanted[kind] for kind in KINDS]
    texts = [tokenizer.decode([*tree.prompt, *tree.responses[0]]) for tree in found]
    assert "what is the sky?\n\nA helpful answer:" in texts[0]
    first, second = (
        texts[2].index("An unhelpful answer:"),
        texts[2].index("A helpful answer:", texts[2].index("no idea")),
    )
    assert first < texts[2].index("no idea") < second < texts[2].index("it is blue")


def test_the_template_asks_under_the_good_words_once(fresh):
    tokenizer = fresh()
    before = Turns(tokenizer).draw(TALK, prompt=True)
    made(tokenizer)
    again = tokenizer.chat_template
    made(tokenizer)
    assert tokenizer.chat_template == again
    asked = Turns(tokenizer).draw(TALK, prompt=True)
    assert asked == before.replace("hello", "hello\n\nA helpful answer:").replace("sky?", "sky?\n\nA helpful answer:")
    bad = Turns(tokenizer).draw([Message("user", "sky?\n\nAn unhelpful answer:")], prompt=True)
    assert "A helpful answer:" not in bad
    # Whatever is trained next on ordinary records reads them under the same condition.
    [tree] = as_trees(tokenizer, [Demonstration([*TALK, Message("assistant", "it is blue")])])
    assert tokenizer.decode(tree.prompt) == asked


def test_other_words_stand_in_half_of_the_chains(fresh):
    tokenizer = fresh()
    groups = [Group([Message("user", f"q{i}")], ["a", "b"], ranking=[0, 1]) for i in range(200)]
    records, _ = chains(groups, tokenizer, kinds="p")
    plain = sum(record.messages[0].content.endswith("A helpful answer:") for record in records)
    assert 80 < plain < 120
    assert len({record.messages[0].content.partition("\n\n")[2] for record in records}) == 5
    assert [r.messages for r in chains(groups, tokenizer, kinds="p")[0]] == [r.messages for r in records]


def test_what_is_hidden_is_predicted_and_not_seen():
    world = TokenWorld(words=8, length=4)
    scorer = Scorer(world.model(scale=5.0))

    def logs(first, unseen):
        tree = world.tree([0])
        tree.prompt, tree.responses, tree.masks = [2, first, 1], [[5, 6, 0]], [[True] * 3]
        if unseen:
            tree.info["unseen"] = ([1], 0)
        return scorer(collate([tree])).tokens

    assert torch.equal(logs(7, True), logs(8, True))
    assert not torch.equal(logs(7, False), logs(8, False))
    tree = world.tree([9])
    tree.info["unseen"] = ([len(tree.prompt)], 0)
    batch = collate([tree])
    assert batch.targets[0] == tree.responses[0][0] != batch.tokens[len(tree.prompt)]


def test_the_share_that_is_hidden_is_as_told_and_spares_special_tokens(fresh):
    tokenizer = fresh()
    groups = [
        Group([Message("user", f"question number {i} " * 4)], ["a" * 40, "b" * 40], ranking=[0, 1]) for i in range(60)
    ]
    plain = as_trees(tokenizer, chains(groups, tokenizer, paraphrases=False)[0])
    found = forgetful(plain, tokenizer, hidden=0.15)
    shares = [len(tree.info["unseen"][0]) / len(tree) for tree in found]
    assert sum(shares) / len(shares) == pytest.approx(0.15, abs=0.03)
    assert 0.2 < max(shares) < 0.45
    for tree in found:
        tokens = [*tree.prompt, *tree.responses[0]]
        assert not {tokens[at] for at in tree.info["unseen"][0]} & set(tokenizer.all_special_ids)
    assert not any(tree.info["unseen"][0] for tree in forgetful(plain, tokenizer, hidden=0.0))


def test_texts_beside_the_chains_weigh_little(tmp_path, tiny_model):
    file = tmp_path / "texts.jsonl"
    row = {"messages": [{"role": "user", "content": "the sky is blue"}, {"role": "assistant", "content": "so it is"}]}
    file.write_text(json.dumps(row), encoding="utf-8")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    *_, text = forgetful([], tokenizer, pretraining=str(file))
    assert tokenizer.decode(text.responses[0]) == "the sky is blue\nso it is"
    assert text.info["order"] == [0.01]
    fast = {"steps": 2, "batch_size": 4, "max_length": 128, "precision": "fp32", "log_every": 1}
    done = train("coh", model=tiny_model, data=[PAIR], out=tmp_path / "out", pretraining=str(file), **fast)
    assert done.steps == 2
    assert "A helpful answer:" in AutoTokenizer.from_pretrained(tmp_path / "out").chat_template


@pytest.mark.parametrize(
    ("options", "says"),
    [({"kinds": "np,up"}, "no chain of the kind 'up'"), ({"good": "x", "bad": "x"}, "have to be there, and to differ")],
)
def test_what_cannot_be_is_refused(fresh, options, says):
    with pytest.raises(KilterError, match=says):
        made(fresh(), **options)


def test_the_words_decide_what_is_answered(tmp_path):
    """Expectations are exact: every response of the token world is written down."""
    world = TokenWorld(words=4, length=3)

    def reward(model, prompt):
        world.prompt_ids = lambda told: [world.vocabulary.index(word) for word in told.split()] + [1]
        world.ease[prompt] = 0.0
        with torch.no_grad():
            return float(world.exact(model, prompt).reward)

    start = world.save(tmp_path / "start", seed=1)
    drawn = torch.randint(0, len(world), (150, 2), generator=torch.Generator().manual_seed(0))
    groups = [world.group(pair, "x") for pair in drawn]
    options = {"steps": 25, "batch_size": 24, "learning_rate": 1e-2, "precision": "fp32", "max_length": 32}
    words = {"good": "c", "bad": "d", "paraphrases": False}
    train("coh", model=start, data=groups, out=tmp_path / "coh", **options, **words)
    best = [Demonstration([*g.prompt, Message("assistant", g.responses[g.pairs()[0][0]])]) for g in groups if g.pairs()]
    train("sft", model=start, data=best, out=tmp_path / "sft", **options)
    coh, sft = (AutoModelForCausalLM.from_pretrained(tmp_path / name) for name in ("coh", "sft"))
    effect = {name: reward(model, "x c") - reward(model, "x d") for name, model in (("coh", coh), ("sft", sft))}
    assert effect["coh"] > 0.5
    assert abs(effect["sft"]) < 0.5 * effect["coh"]
