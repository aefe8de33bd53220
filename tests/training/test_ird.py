"""Inverse reward design: its posterior on a grid of weights, lava that nobody thought of, a policy that shuns it."""

import itertools

import pytest
import torch
from token_runs import Tokens

from kilter import formats
from kilter.errors import KilterError
from kilter.feedback.named import named
from kilter.models.drive import wait
from kilter.training.ird import averse, cautious, doubted, plans, posterior
from worlds.grid import Grid

LETTERS = ["d", "g", "l", "t"]  # dirt, grass, lava, target
# Designed where there is no lava; used where it lies on the shortest way.
SEEN = Grid(["ggt", "ddg", "ggg"], horizon=6, start=(2, 0), terrains=LETTERS)
UNSEEN = Grid(["glt", "ggg"], horizon=7, start=(0, 0), terrains=LETTERS)


def runs(grid):
    """Return [N, 4]: the terrains that every run meets."""
    return grid.mdp.features[grid.runs()[0]].sum(1)


def table():
    """Return every weight of four terrains on a grid, as candidates and as proxies."""
    return torch.tensor(list(itertools.product((-1.0, -0.3, 0.3, 1.0), repeat=4)), dtype=torch.float64)


def test_of_what_was_not_there_nothing_is_learned():
    weights, options = table(), [runs(SEEN)]
    met = plans(SEEN.weights(d=-0.3, g=0.3, t=1.0)[None], options)[0]
    assert met[LETTERS.index("l")] == 0
    chance = posterior(weights, met, plans(weights, options), 5.0).exp()
    for letter, same in zip(LETTERS, (False, False, True, False), strict=True):
        values = weights[:, LETTERS.index(letter)]
        marginal = torch.stack([chance[values == value].sum() for value in values.unique()])
        even = torch.full_like(marginal, 1 / 4)
        assert torch.allclose(marginal, even, atol=1e-12) == same


def test_without_rationality_it_is_the_prior_and_with_all_of_it_what_serves_first():
    weights, options = table(), [runs(SEEN)]
    others = plans(weights, options)
    met = plans(SEEN.weights(d=-0.3, g=0.3, t=1.0)[None], options)[0]
    prior = torch.linspace(0, 1, len(weights), dtype=torch.float64)
    torch.testing.assert_close(posterior(weights, met, others, 0.0, prior), torch.log_softmax(prior, 0))
    chance = posterior(weights, met, others, 500.0).exp()
    served = (weights @ met) >= (weights @ others.T).amax(1) - 1e-9
    assert chance[served].sum() > 0.999
    # A further preference between two adds to the log of the posterior: S1's proposal.
    preferred = torch.nn.functional.logsigmoid(weights[:, 0] - weights[:, 1])
    both = posterior(weights, met, others, 5.0, preferred)
    torch.testing.assert_close(both, torch.log_softmax(posterior(weights, met, others, 5.0) + preferred, 0))


def test_the_lava_that_nobody_thought_of_is_gone_round():
    written, lava = SEEN.weights(d=-0.5, g=-0.1, t=1.0), LETTERS.index("l")
    weights, met = doubted(written, [runs(SEEN)], rationality=5.0, proxies=2000, doubts=50, seed=0)
    ways = runs(UNSEEN)
    literal = ways[(ways @ written).argmax()]
    averse = ways[cautious(ways, weights, met).argmax()]
    assert literal[lava] > 0
    assert averse[lava] == 0
    assert weights.norm(dim=1).tolist() == pytest.approx([written.norm().item()] * 50)


def test_the_policy_shuns_what_was_not_there_where_the_literal_one_runs_to_it(tmp_path, monkeypatch):
    """The proxy is for c and knows nothing of d; where it was designed nobody said d. To say d earns as much as c."""
    tokens = Tokens(tmp_path, monkeypatch, words=4, length=3)
    world = tokens.world
    seen = [n for n in range(len(world)) if world.ended(n) and not {"d", ":", "x", "y"} & set(world.text(n).split())]
    groups = [world.group(seen, prompt) for prompt in "xy"]
    formats.write(groups, tmp_path / "seen.jsonl")
    proxy = {"matches:[cd]": 1.0, "contains:d": 0.0}
    options = {"feedback": proxy, "steps": 16, "max_tokens": 3, "learning_rate": 5e-3, "beta": 0.01}
    literal, _ = tokens.run("rloo", **options)
    averse, _ = tokens.run("ird", designed_on=str(tmp_path / "seen.jsonl"), **options)

    def says(model, word):
        with torch.no_grad():
            chance = world.log_probs(model).exp()
        return chance[[word in world.text(n).split() for n in range(len(world))]].sum().item()

    start = tokens.model()
    assert says(literal, "d") > says(start, "d")
    assert says(averse, "d") < says(start, "d")
    assert says(averse, "c") > says(start, "c")


def test_what_can_not_be_doubted_is_refused(tmp_path):
    with pytest.raises(KilterError, match="give feedback as a mixture"):
        averse(named("contains:a"), designed_on="seen.jsonl")
    nothing = tmp_path / "seen.jsonl"
    nothing.write_text('{"prompt": "x", "responses": ["a", "b"], "scores": [1, 0]}\n', encoding="utf-8")
    with pytest.raises(KilterError, match="All weights of the feedback are 0"):
        averse(named({"contains:a": 0.0, "contains:b": 0.0}), designed_on=str(nothing))
    found = averse(named({"contains:a": 1.0, "contains:b": 0.0}), designed_on=str(nothing), rationality=20.0)
    prompt = formats.read(nothing, want="groups").records[0]
    from kilter.records import Prompt

    scores = [signal.score for signal in wait(found(Prompt(prompt.prompt), ["a", "b", "a b"]))]
    assert scores[0] == pytest.approx(0.0)
    assert scores[1] < 0 > scores[2]
