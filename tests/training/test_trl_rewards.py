"""The reward model's loss against what TRL's RewardTrainer computed on the same batch (tests/fixtures)."""

import pytest
import torch
from transformers import LlamaForSequenceClassification

import tiny_llama
from kilter.engine import Tree, Valuer, collate
from kilter.training.reward import reward


@pytest.fixture(scope="module")
def recorded():
    return tiny_llama.recorded("trl_rewards.safetensors")


@pytest.fixture
def judge(recorded):
    model = LlamaForSequenceClassification(tiny_llama.config(num_labels=1, pad_token_id=0))
    model.load_state_dict(tiny_llama.part(recorded[0], "judge"))
    return model


@pytest.mark.parametrize("name", ["plain", "margin", "centred"])
def test_the_reward_loss_is_trl_s_in_value_and_gradient(recorded, judge, name):
    values, told = recorded
    rows = [
        ids[seen.bool()].tolist()
        for ids, seen in zip(values[f"{name}.input_ids"], values[f"{name}.attention_mask"], strict=True)
    ]
    half = len(rows) // 2
    margins = values[f"{name}.margin"].tolist() if name != "plain" else [0.0] * half
    trees = []
    for chosen, rejected, margin in zip(rows[:half], rows[half:], margins, strict=True):
        fork = next(i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b)
        responses = [chosen[fork:], rejected[fork:]]
        info = {"pairs": [(0, 1)], "order": [margin, 0.0]}
        trees.append(Tree(chosen[:fork], responses, [[True] * len(r) for r in responses], info=info))
    batch = collate(trees)
    options = {} if name == "plain" else {"margin": 1.0}
    if name == "centred":
        options["centering"] = float(told["centering"])
    loss = reward(Valuer(judge)(batch), batch.groups, **options)
    total = loss.per_example.sum() / loss.weight.sum()
    assert total.item() == pytest.approx(values[f"{name}.loss"].item(), abs=1e-6)
    total.backward()
    for key, parameter in judge.named_parameters():
        torch.testing.assert_close(parameter.grad, values[f"{name}.gradient.{key}"], atol=2e-6, rtol=1e-4)
