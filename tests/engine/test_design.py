"""Designs as text and as numbers: groups of layers, shares of parameters, and sizes that come to the budget."""

import random

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

from kilter.engine.adapters import AdapterOptions, planned
from kilter.engine.design import ALLOCATIONS, FOUND, GROUPINGS, STRATEGIES, Design, Part, count, fit, fits, grouped
from kilter.engine.designed import parts_of
from kilter.errors import KilterError

LAYERS = range(4, 97)


@pytest.mark.parametrize("pattern", GROUPINGS)
def test_groups_hold_all_layers_and_each_has_one(pattern):
    for layers in LAYERS:
        for groups in (3, 4, 8):
            if layers >= groups:
                sizes = grouped(pattern, layers, groups)
                assert sum(sizes) == layers
                assert len(sizes) == groups
                assert min(sizes) >= 1


def test_a_spindle_has_few_layers_at_both_ends_and_a_bottleneck_many():
    assert grouped("spindle", 12, 4) == [2, 4, 4, 2]
    assert grouped("bottleneck", 12, 4) == [4, 2, 2, 4]
    for layers in LAYERS:
        first, second, third, fourth = grouped("spindle", layers, 4)
        assert first == fourth
        assert third - second == layers % 2
        assert first < second or layers < 6
        first, second, third, fourth = grouped("bottleneck", layers, 4)
        assert second == third
        assert fourth - first == layers % 2
        assert first > second or layers < 6


def test_groups_rise_fall_or_are_equal():
    assert grouped("increasing", 10, 4) == [1, 2, 3, 4]
    for layers in LAYERS:
        sizes = grouped("increasing", layers, 4)
        assert sizes == sorted(sizes)
        assert len(set(sizes)) == 4 or layers < 14
        assert grouped("decreasing", layers, 4) == sizes[::-1]
        assert max(grouped("uniform", layers, 4)) - min(grouped("uniform", layers, 4)) <= 1


def test_a_design_is_what_its_text_says():
    design = Design.read(FOUND)
    assert str(design) == FOUND
    assert design.of_layers(12)[:3] == [{"A", "L"}, {"A", "L"}, {"A", "P"}]
    assert Design.read(" spindle : l+a, a+P,-,B ") == Design.read("spindle:uniform:A+L,A+P,-,B")
    by_number = Design.read("1-2:3-1-2:A,-")
    assert by_number.sizes(3) == [1, 2]
    assert by_number.weights(3) == [3, 0, 0]  # what is not tuned has no parameters
    assert Design.read("uniform:increasing:A,A").weights(4) == [1, 2, 3, 4]
    assert Design.read("uniform:decreasing:A,A").weights(4) == [4, 3, 2, 1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("A+L", "is no design; write grouping:allocation:strategies"),
        ("spindel:A,A", "'spindel' in the design .* Did you mean 'spindle'"),
        ("spindle:rising:A,A", "'rising' in the design"),
        ("spindle:A,X", "'X' in the design .* is no strategy"),
        ("spindle:A,", "is no strategy"),
        ("uniform:-,-", "tunes no group"),
        ("2-2:A,A,A", "has 2 groups of layers and strategies for 3"),
        ("0-4:A,A", "'0-4' in the design"),
    ],
)
def test_what_is_no_design_is_said(text, said):
    with pytest.raises(KilterError, match=said):
        Design.read(text)


def test_a_design_for_another_model_is_said():
    with pytest.raises(KilterError, match="are of 4 layers, and the model has 6"):
        Design.read("2-2:A,A").sizes(6)
    with pytest.raises(KilterError, match="weighs 3 layers, and the model has 6"):
        Design.read("uniform:1-2-3:A,A").weights(6)
    with pytest.raises(KilterError, match="The model has 2 layers, too few for 4 groups"):
        Design.read(FOUND).sizes(2)


def on_paper(config):
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


LLAMA = LlamaConfig(
    num_hidden_layers=12, hidden_size=512, intermediate_size=1376, num_attention_heads=8, num_key_value_heads=4
)


def drawn(draw, layers):
    """A design at random, as the search draws them."""
    groups = [[s for s in STRATEGIES if draw.random() < 0.5] or [draw.choice("APL")] for _ in range(4)]
    if draw.random() < 0.5:
        groups[draw.randrange(4)] = []
    by_layer = "-".join(str(draw.randint(1, 9)) for _ in range(layers))
    grouping, allocation = draw.choice(GROUPINGS), draw.choice([*ALLOCATIONS, by_layer])
    return Design.read(f"{grouping}:{allocation}:{','.join('+'.join(group) or '-' for group in groups)}")


@pytest.mark.parametrize("config", [LLAMA, GPT2Config(n_embd=512, n_head=8)], ids=lambda config: config.model_type)
def test_the_parameters_of_any_design_are_within_a_hundredth_of_the_budget(config):
    model, draw = on_paper(config), random.Random(0)
    parts = parts_of(model, ["q_proj", "v_proj", "c_attn"])
    budget = round(0.005 * sum(p.numel() for p in model.parameters()))
    for _ in range(100):
        design = drawn(draw, 12)
        sizes = fit(design, parts, budget)
        if not any(own & set("APL") for own in design.of_layers(12)):
            continue
        assert abs(count(sizes, parts) - budget) <= 0.01 * budget, str(design)
        assert fits(design, parts, budget)
        for own, strategies in zip(sizes, design.of_layers(12), strict=True):
            assert {key[0] for key in own} == strategies
            assert all(size >= 1 for size in own.values())


def per_layer(sizes, parts):
    return [count([own], [layer]) for own, layer in zip(sizes, parts, strict=True)]


def test_layers_have_the_shares_that_the_allocation_says():
    parts = parts_of(on_paper(LLAMA), ["q_proj", "v_proj"])
    budget = 200_000
    even = per_layer(fit(Design.read(FOUND), parts, budget), parts)
    assert max(even) - min(even) <= 2 * max(part.unit for part in parts[0])  # half a step each way, and one at last
    rising = per_layer(fit(Design.read("uniform:increasing:L,L,L"), parts, budget), parts)
    assert rising == sorted(rising)
    assert rising[-1] > 8 * rising[0]
    some = per_layer(fit(Design.read("uniform:uniform:-,L,-"), parts, budget), parts)
    assert [bool(n) for n in some] == [False] * 4 + [True] * 4 + [False] * 4
    assert sum(some) == pytest.approx(budget, rel=0.01)


def test_bitfit_has_as_much_as_it_has_and_the_others_the_rest():
    layers = [[Part("B", "b", 10, 0), Part("L", "q", 0, 4)]] * 2
    sizes = fit(Design.read("1-1:B,L"), layers, 100)
    assert sizes == [{"B:b": 1}, {"L:q": 22}]
    assert count(sizes, layers) == 98
    assert fits(Design.read("1-1:B,L"), layers, 100)
    # All of it is BitFit: it stays below the budget.
    assert count(fit(Design.read("1-1:B,B"), layers, 100), layers) == 20
    assert not fits(Design.read("1-1:B,B"), layers, 100)
    with pytest.raises(KilterError, match="has at least 28 parameters in this model, and its budget is 20"):
        fit(Design.read("1-1:B+L,B+L"), layers, 20)
    with pytest.raises(KilterError, match="has no place for P"):
        fit(Design.read("1-1:P,L"), layers, 100)


def test_options_name_a_design_and_its_budget():
    model = on_paper(LLAMA)
    whole = sum(p.numel() for p in model.parameters())
    parts = parts_of(model, ["q_proj", "v_proj"])
    for share in (None, 0.01):
        design, sizes = planned(model, AdapterOptions(adapter="design", design_budget=share))
        assert str(design) == FOUND
        assert count(sizes, parts) == pytest.approx((share or 0.005) * whole, rel=0.01)
