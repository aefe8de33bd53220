"""A model with a design: what it computes, what of it learns, and that it is the base with the design off."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from kilter.engine import Scorer, adapters, collate
from kilter.engine.adapter_files import is_adapted, put_on
from kilter.engine.design import FOUND
from kilter.engine.designed import PREFIX, Changed, Designed
from kilter.engine.loop import LoopOptions, train
from kilter.engine.plain import obstacle
from kilter.engine.sampler import sample
from kilter.engine.values import Valuer
from kilter.engine.virtual import room
from kilter.errors import KilterError
from kilter.training.dpo import dpo
from kilter.training.sft import sft
from tiny_models import (
    ARCHITECTURES,
    SHARED,
    SINKS,
    greedy,
    make,
    make_judge,
    ordinary,
    pair_trees,
    some_trees,
    stirred,
)

FAST = {"learning_rate": 1e-2, "batch_size": 4, "warmup": 1, "log_every": 2, "precision": "fp32", "checkpoint_every": 0}
CPU = torch.device("cpu")
# Two layers, so two groups: all four strategies, prefixes in one layer and in both.
DESIGNS = {"some": "1-1:A+L,B+P", "all": "1-1:A+P+B,P+B+L", "none": "1-1:A+B+L,A"}


def options(text="1-1:A+L,B+P", **more):
    return LoopOptions(**FAST | {"steps": 6, "adapter": "design", "design": text, "design_budget": 0.1} | more)


def on(model, text, prefixes=(2, 4)):
    """The design on `model`, with prefixes of these lengths: a window of 6 tokens holds no long ones."""
    asked, sizes = adapters.planned(model, options(text))
    for own, length in zip(sizes, prefixes, strict=True):
        if PREFIX in own:
            own[PREFIX] = length
    torch.manual_seed(1)
    return Designed(model, str(asked), sizes)


def slopes(value, model):
    return torch.autograd.grad(value.sum(), [p for p in model.parameters() if p.requires_grad], retain_graph=True)


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("name", [*ARCHITECTURES, *SINKS])
def test_the_ragged_row_is_one_sequence_at_a_time(name, design, recwarn):
    trees, base = some_trees(), make(name)
    before = ordinary(base, trees)
    model = stirred(on(base, DESIGNS[design]))
    scorer = Scorer(model)
    assert scorer.ragged, [str(warning.message) for warning in recwarn]
    found, expected = scorer(collate(trees)).tokens, ordinary(model, trees)
    assert float((found - expected).detach().abs().max()) <= 2e-5
    assert float((expected - before).detach().abs().max()) > 1e-1
    for one, two in zip(slopes(found, model), slopes(expected, model), strict=True):
        assert float((one - two).abs().max()) <= 2e-5 * max(1.0, float(two.abs().max()))
    with torch.no_grad(), adapters.off(model):
        assert float((scorer(collate(trees)).tokens - before).abs().max()) <= 2e-5


def test_a_prefix_longer_than_a_window_is_seen_as_far_as_the_window_reaches():
    model, trees = stirred(on(make("mistral"), "1-1:P,P", prefixes=(9, 3))), some_trees()
    found, expected = Scorer(model)(collate(trees)).tokens, ordinary(model, trees)
    assert float((found - expected).detach().abs().max()) <= 2e-5
    first, second = slopes(found, model)
    unseen = [not bool(first[:, :, place].any()) for place in range(9)]
    assert unseen == [True] * 4 + [False] * 5
    assert bool(second.any())


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma2", "gpt2", *SINKS])
def test_samples_are_the_likeliest_of_the_ordinary_forward(name, recwarn):
    model, prompts = stirred(on(make(name), DESIGNS["all"])), [[5, 9, 13, 40, 41, 42], [3], [50] * 9]
    assert obstacle(model) == ""
    expected = [greedy(model, prompt, 6) for prompt in prompts]
    for n in (1, 2):  # two share a prompt, which then stands on a shelf
        found = sample(model, prompts, n=n, max_tokens=6, temperature=0.0, batch_size=3)
        for (tokens, logs), completions in zip(expected, found, strict=True):
            for completion in completions:
                assert completion.tokens == tokens
                assert completion.logprobs == pytest.approx(logs, abs=2e-5)


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt"])
def test_a_fresh_design_is_the_base_to_the_bit_but_for_its_prefixes(name):
    base, tokens = make(name), torch.tensor([[5, 6, 7, 8, 9]])
    base.set_attn_implementation("sdpa")
    with torch.no_grad():
        before = base(tokens).logits
        model = on(base, DESIGNS["none"])
        assert torch.equal(model(tokens).logits, before)
        stirred(model)
        assert not torch.allclose(model(tokens).logits, before)
        with model.disable_adapter():
            assert torch.equal(model(tokens).logits, before)
        prefixed = on(make(name), "1-1:P,P")
        assert not torch.allclose(prefixed(tokens).logits, before)
        with adapters.off(prefixed):
            assert torch.allclose(prefixed(tokens).logits, before, atol=1e-5)
    assert room(prefixed) == SHARED["max_position_embeddings"]  # a prefix takes no places
    assert adapters.kind_of(model) == "design"
    assert is_adapted(model)


def linear(**what):
    torch.manual_seed(0)
    return Changed(torch.nn.Linear(6, 5, bias=False), **what), torch.randn(7, 6)


def test_an_adapter_begins_as_identity_and_is_a_bottleneck_behind_the_layer():
    layer, x = linear(width=3)
    y = layer.base_layer(x)
    assert torch.equal(layer(x), y)
    torch.nn.init.normal_(layer.up.weight)
    inner = F.silu(y @ layer.down.weight.T + layer.down.bias)
    torch.testing.assert_close(layer(x), y + inner @ layer.up.weight.T + layer.up.bias)
    assert sum(p.numel() for p in layer.parameters()) - 30 == 5 + 3 * (2 * 5 + 1)


def test_bitfit_is_training_the_bias():
    torch.manual_seed(0)
    base = torch.nn.Linear(6, 5)
    other, x = torch.nn.Linear(6, 5), torch.randn(7, 6)
    other.load_state_dict(base.state_dict())
    layer = Changed(base, bias=1)
    layer(x).square().sum().backward()
    other(x).square().sum().backward()
    assert torch.equal(layer.bitfit.grad, other.bias.grad)
    assert [name for name, _ in layer.named_parameters()] == ["bitfit", "base_layer.weight", "base_layer.bias"]


def test_lora_is_a_product_of_two():
    layer, x = linear(rank=2)
    assert torch.equal(layer(x), layer.base_layer(x))
    torch.nn.init.normal_(layer.lora_b)
    whole = layer.base_layer.weight + layer.lora_b @ layer.lora_a
    torch.testing.assert_close(layer(x), x @ whole.T)


def test_only_what_is_assigned_learns(tmp_path):
    model, before = make(), dict(make().named_parameters())
    done = train(model, pair_trees(8), sft, options(epochs=5, steps=None, learning_rate=3e-2), tmp_path)
    assert done.losses[-1] < done.losses[0]
    for name, parameter in model.named_parameters():
        if (plain := name.replace(".base_layer", "")) in before:
            assert torch.equal(parameter, before[plain])
            assert not parameter.requires_grad
    kept = load_file(tmp_path / "adapter_model.safetensors")
    first = {name.rpartition(".")[2] for name in kept if ".0." in name and "mlp" not in name}
    assert first == {"lora_a", "lora_b", "weight", "bias"}
    assert {name for name in kept if "q_proj" in name} == {
        "base.model.layers.0.self_attn.q_proj.lora_a",
        "base.model.layers.0.self_attn.q_proj.lora_b",
        "base.model.layers.1.self_attn.q_proj.bitfit",
    }
    assert [name for name in kept if name.startswith("prefix")] == ["prefix.1"]
    assert all(value.abs().max() > 0 for value in kept.values())
    config = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["design"] == "1-1:uniform:A+L,P+B"
    assert config["sizes"][1][PREFIX] == kept["prefix.1"].shape[2]
    size = sum(p.numel() for p in before.values())
    assert sum(value.numel() for value in kept.values()) == pytest.approx(0.1 * size, rel=0.02)


def test_the_paper_s_design_gives_each_group_its_own(tmp_path):
    torch.manual_seed(0)
    base = LlamaForCausalLM(LlamaConfig(**SHARED | {"num_hidden_layers": 6}))
    model = adapters.attach(base, options(FOUND), steps=1, device=CPU, bf16=False)
    assert (model.design, len(model.sizes)) == (FOUND, 6)
    scorer, names = Scorer(model), {}
    scorer(collate(pair_trees(4))).tokens.sum().backward()
    for name, parameter in model.named_parameters():
        # A and D come behind what begins as zeros, so that nothing reaches them at first; all else has a slope.
        assert (parameter.grad is not None) == parameter.requires_grad == (name in model.own)
        if name in model.own:
            assert bool(parameter.grad.any()) == (not name.endswith("lora_a") and ".down." not in name)
            layer = int(name.split(".")[1] if name.startswith("prefix") else name.split(".")[3])
            names.setdefault(layer, set()).add(kind(name))
    first, second, third, fourth = {"A", "L"}, {"A", "P"}, {"A", "P", "B"}, {"P", "B", "L"}
    assert [names[i] for i in range(6)] == [first, second, second, third, third, fourth]
    whole = sum(p.numel() for p in LlamaForCausalLM(base.config).parameters())
    assert sum(p.numel() for p in model.weights().values()) == pytest.approx(0.1 * whole, rel=0.01)


def kind(name):
    if name.startswith("prefix"):
        return "P"
    return "L" if "lora" in name else "B" if name.endswith("bitfit") else "A"


def saved_base(folder):
    model = make()
    model.save_pretrained(folder)
    model.name_or_path = str(folder)
    return model


def scores(model, trees):
    with torch.no_grad():
        return Scorer(model)(collate(trees)).tokens


def test_what_is_left_is_loaded_as_it_was_and_goes_on(tmp_path):
    trees, out = some_trees(), tmp_path / "out"
    base = saved_base(tmp_path / "base")
    model = adapters.attach(base, options(), steps=6, device=CPU, bf16=False)
    train(model, pair_trees(8), sft, options(design_budget=None), out)
    expected = scores(model, trees)

    def loaded(**how):
        again = make()
        again.name_or_path = str(tmp_path / "base")
        return put_on(again, out, "out", **how)

    assert torch.equal(scores(loaded(), trees), expected)
    assert not any(p.requires_grad for p in loaded().parameters())
    with pytest.raises(KilterError, match="a design adapter, which cannot be merged"):
        train(loaded(), pair_trees(4), sft, LoopOptions(**FAST, steps=1), tmp_path / "more")
    with pytest.raises(KilterError, match="adapter of the kind design, and adapter is lora"):
        train(loaded(train="lora"), pair_trees(4), sft, LoopOptions(**FAST, steps=1, adapter="lora"), tmp_path / "more")
    with pytest.raises(KilterError, match="design is 1-1:uniform:A,A, and that of the adapter that is continued"):
        train(loaded(train="design"), pair_trees(4), sft, options("1-1:A,A", design_budget=None), tmp_path / "more")
    with pytest.raises(KilterError, match="design_budget is settled"):
        train(loaded(train="design"), pair_trees(4), sft, options(), tmp_path / "more")
    later = loaded(train="design")
    seen = []

    def watching(policy, reference, group):
        seen.append(reference.tokens)
        return dpo(policy, reference, group)

    train(later, pair_trees(4), watching, options(design_budget=None, steps=3), tmp_path / "more")
    # The reference is the design as it was loaded.
    assert float((seen[0].sort().values - scores(loaded(), pair_trees(4)).sort().values).abs().max()) <= 2e-5
    assert float((scores(later, trees) - expected).abs().max()) > 1e-4


def test_a_run_that_was_stopped_continues_to_the_same_bits(tmp_path):
    given = options(steps=8, checkpoint_every=3, gradient_checkpointing=True)

    class Stop(Exception):
        pass

    def run(out, at=0):
        calls = iter(range(1, 100))

        def stop(policy, reference, group):
            if next(calls) == at:
                raise Stop
            return dpo(policy, reference, group)

        return train(make(), pair_trees(9), stop, given, out)

    expected = run(tmp_path / "whole")
    with pytest.raises(Stop):
        run(tmp_path / "parts", at=6)
    assert run(tmp_path / "parts").losses == expected.losses
    one, two = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("change", ["version", "sizes", "weights"])
def test_a_file_that_does_not_fit_is_said(tmp_path, change):
    train(saved_base(tmp_path / "base"), pair_trees(4), sft, options(steps=1), tmp_path / "out")
    config = tmp_path / "out" / "adapter_config.json"
    told = json.loads(config.read_text(encoding="utf-8"))
    if change == "version":
        told["version"] = 2
    elif change == "sizes":
        told["sizes"][0]["L:self_attn.nothing"] = 1
    else:
        told["sizes"][1][PREFIX] += 1
    config.write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(KilterError, match="'out' does not fit its base") as caught:
        put_on(make(), tmp_path / "out", "out")
    assert "\n" not in str(caught.value)


def test_a_reward_model_learns_its_head_along():
    judge, trees = make_judge(), some_trees(shapes=((5, (4, 3)), (3, (6,))))
    before = Valuer(judge)
    expected = before(collate(trees)).ends.detach()
    before.release()
    model = on(judge, DESIGNS["none"])
    valuer = Valuer(model)
    assert torch.equal(valuer(collate(trees)).ends.detach(), expected)
    assert "base.score.own" in model.weights()
    stirred(model)
    assert float((valuer(collate(trees)).ends.detach() - expected).abs().max()) > 1e-2
    with adapters.off(model):
        assert torch.equal(valuer(collate(trees)).ends.detach(), expected)
    prefixed = stirred(on(make_judge(), DESIGNS["some"]))
    laid_out, padded = Valuer(prefixed)(collate(trees)).ends, Valuer(prefixed, ragged=False)(collate(trees)).ends
    torch.testing.assert_close(laid_out, padded, atol=2e-5, rtol=0)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"adapter": "lora", "design_budget": None}, "design is set, and adapter is lora"),
        ({"adapter": "none", "design": None}, "design_budget is set, and adapter is none"),
        ({"design": "1-1:X,A"}, "'X' in the design"),
        ({"merge": True}, "bottlenecks and prefixes of a design have no place"),
        ({"adapter_rank": 4}, "adapter_rank is set, which belongs to"),
        ({"design": None}, "The model has 2 layers, too few for 4 groups"),
        ({"design_budget": 1e-4}, "has at least .* parameters in this model, and its budget is .* raise design_budget"),
    ],
)
def test_settings_that_do_not_go_together_are_said(tmp_path, setting, said):
    with pytest.raises(KilterError, match=said) as caught:
        train(make(), pair_trees(4), sft, options(**{"text": "1-1:A+L,B+P", **renamed(setting)}), tmp_path)
    assert "\n" not in str(caught.value)


def renamed(setting):
    return {"text" if name == "design" else name: value for name, value in setting.items()}


def test_what_a_model_has_no_place_for_is_said(tmp_path):
    with pytest.raises(KilterError, match=r"BloomForCausalLM takes no prefix of a design: it does not take a layout"):
        train(make("bloom"), pair_trees(4), sft, options("1-1:P,P", steps=1), tmp_path / "a")
    with pytest.warns(UserWarning, match="trained with padding"):
        done = train(make("bloom"), pair_trees(4), sft, options("1-1:A+L+B,A", steps=2), tmp_path / "b")
    assert done.steps == 2
    with pytest.raises(KilterError, match="has no place for P of the design"):
        train(make("mamba"), pair_trees(4), sft, options("1-1:P,P", steps=1), tmp_path / "c")
    with pytest.raises(KilterError, match="cannot be sampled with the prefixes"):
        on(make(), "1-1:P,P").generate(torch.tensor([[1, 2]]))
