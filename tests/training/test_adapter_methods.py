"""The adapters as methods of their own: the papers' defaults, and the identities that each one has."""

import json
from importlib.util import find_spec

import pytest
import torch
from safetensors.torch import load_file

import kilter
from kilter import registry
from kilter.engine import adapters
from kilter.errors import KilterError
from kilter.models.load import load_weights
from kilter.training.run import options_of
from small import demonstrations

KINDS = {
    "lora": "lora",
    "dora": "dora",
    "adalora": "adalora",
    "qlora": "qlora",
    "prefix-tuning": "prefix",
    "prompt-tuning": "prompt",
}
FEW = {"steps": 3, "batch_size": 4, "max_length": 64, "log_every": 1, "precision": "fp32", "learning_rate": 1e-2}
SMALL = {"prefix-tuning": {"virtual_tokens": 3}, "prompt-tuning": {"virtual_tokens": 3}}


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_a_method_trains_its_adapter_with_the_paper_s_settings(name, kind):
    fields = options_of(registry.find(name, "training")).model_fields
    told = {key: fields[key].default for key in adapters.AdapterOptions.model_fields}
    known = adapters.DEFAULTS[kind]
    assert told["adapter"] == kind
    if known.virtual_tokens:
        assert told["virtual_tokens"] == known.virtual_tokens
    else:
        found = told["adapter_rank"], told["adapter_alpha"], told["adapter_dropout"]
        assert found == (known.rank, known.alpha, known.dropout)
    assert fields["learning_rate"].default != options_of(registry.find("sft", "training")).model_fields["learning_rate"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_model):
    """An adapter of each kind that needs no further library, three steps of it."""
    folder = tmp_path_factory.mktemp("adapters")
    data = demonstrations(folder / "talks.jsonl")
    for name in KINDS.keys() - {"qlora"}:
        kilter.train(name, model=tiny_model, data=data, out=folder / name, **FEW, **SMALL.get(name, {}))
    return folder


@pytest.mark.parametrize("name", sorted(KINDS.keys() - {"qlora"}))
def test_what_is_left_is_the_adapter_alone(trained, tiny_model, name):
    config = json.loads((trained / name / "adapter_config.json").read_text(encoding="utf-8"))
    kept = load_file(trained / name / "adapter_model.safetensors")
    model, _ = load_weights(str(tiny_model))
    config_ = model.config
    heads, size = config_.num_key_value_heads, config_.hidden_size // config_.num_attention_heads
    layers, width = config_.num_hidden_layers, config_.hidden_size
    numbers = sum(tensor.numel() for tensor in kept.values())
    if name == "lora":
        assert config["r"] == 4
        assert set(config["target_modules"]) == {"q_proj", "v_proj"}
        wide = {"q_proj": width, "v_proj": heads * size}
        assert numbers == layers * sum(4 * (width + out) for out in wide.values())  # r (in + out) each
    if name == "prompt-tuning":
        assert numbers == 3 * width
    if name == "prefix-tuning":
        assert numbers == 3 * layers * 2 * heads * size
    if name == "dora":
        assert config["use_dora"]


def linear(rank, alpha, inside=6, outside=5):
    """A linear layer as peft adapts it, below a model of nothing else."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(inside, outside, bias=False))
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=["0"])
    return get_peft_model(net, config), net[0]


def test_lora_begins_as_the_model_and_its_first_step_moves_b_alone():
    model, layer = linear(rank=2, alpha=4)
    given = torch.randn(7, 6)
    before = layer.get_base_layer()(given)
    assert torch.equal(model(given), before)
    model(given).pow(2).sum().backward()
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    assert torch.equal(a.grad, torch.zeros_like(a))
    assert b.grad.abs().max() > 0
    assert layer.get_base_layer().weight.grad is None


def test_lora_s_update_is_of_its_rank_and_merges_and_unmerges():
    model, layer = linear(rank=2, alpha=4)
    weight = layer.get_base_layer().weight.detach().clone()
    with torch.no_grad():
        layer.lora_B["default"].weight.normal_()
    given = torch.randn(7, 6)
    apart = model(given)
    layer.merge()
    assert torch.linalg.matrix_rank(layer.get_base_layer().weight - weight) == 2
    assert torch.allclose(model(given), apart, atol=1e-6)
    layer.unmerge()
    assert torch.allclose(layer.get_base_layer().weight, weight, atol=1e-6)


def test_lora_of_full_rank_fits_any_update():
    model, _ = linear(rank=5, alpha=5)
    torch.manual_seed(1)
    given, wanted = torch.randn(40, 6), torch.randn(5, 6)
    target = given @ wanted.T
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.LBFGS(parameters, max_iter=300, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = (model(given) - target).pow(2).mean()
        value.backward()
        return value

    optimizer.step(loss)
    assert loss().item() < 1e-6


def test_adalora_s_budget_falls_along_a_cubic():
    from peft.tuners.adalora.layer import RankAllocator

    torch.manual_seed(0)
    options = adapters.AdapterOptions(adapter="adalora", adapter_rank=2)
    from tiny_models import make

    model = adapters.attach(make("llama"), _Seeded(options), steps=300, device=torch.device("cpu"), bf16=False)
    config = model.peft_config["default"]
    allocator = RankAllocator(model.model, config, "default")
    layers = sum("lora_E" in name for name, _ in model.named_parameters())
    whole, target = 3 * layers, 2 * layers  # half as many again to begin with
    assert (config.tinit, config.tfinal) == (30, 100)
    assert allocator.budget_schedule(0)[0] == whole
    assert allocator.budget_schedule(30)[0] == whole
    assert allocator.budget_schedule(200)[0] == target
    assert allocator.budget_schedule(300)[0] == target
    half = allocator.budget_schedule(115)[0]  # half of the way from 30 to 200
    assert half == int((whole - target) * 0.5**3 + target)


class _Seeded:
    """Options with the seed that attach() reads beside them."""

    def __init__(self, options):
        self._options, self.seed = options, 0

    def __getattr__(self, name):
        return getattr(self._options, name)


def test_a_soft_prompt_of_real_words_is_that_prompt(trained, tiny_model, tmp_path):
    from kilter.engine.batch import Tree, collate
    from kilter.engine.scorer import Scorer

    model, tokenizer = load_weights(str(trained / "prompt-tuning"))
    words = tokenizer("what is the", add_special_tokens=False)["input_ids"][:3]
    assert len(words) == 3
    with torch.no_grad():
        table = model.get_base_model().get_input_embeddings().weight
        model.prompt_encoder["default"].embedding.weight.copy_(table[words])
    base, _ = load_weights(str(tiny_model))
    asked, answer = tokenizer("sky is")["input_ids"], tokenizer("it is blue")["input_ids"]
    with torch.no_grad():
        soft = Scorer(model)(collate([Tree(asked, [answer], [[True] * len(answer)])])).tokens
        hard = Scorer(base)(collate([Tree([*words, *asked], [answer], [[True] * len(answer)])])).tokens
    assert torch.allclose(soft, hard, atol=1e-6)


@pytest.mark.skipif(find_spec("bitsandbytes") is not None, reason="bitsandbytes is here")
def test_qlora_without_its_library_is_refused_before_anything(tiny_model, tmp_path):
    with pytest.raises(KilterError, match="bitsandbytes, which is not installed"):
        kilter.train("qlora", model=tiny_model, data=demonstrations(tmp_path / "d.jsonl"), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
