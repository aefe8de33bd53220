"""SFT and DPO against what TRL computed on the same batch (tests/fixtures/make_trl_reference.py recorded it)."""

import pytest
import torch
from transformers import LlamaForCausalLM

import tiny_llama
from kilter.engine import Scorer, Tree, collate
from kilter.training.dpo import dpo
from kilter.training.sft import sft


@pytest.fixture(scope="module")
def recorded():
    return tiny_llama.recorded("trl_reference.safetensors")


def model(recorded, name):
    built = LlamaForCausalLM(tiny_llama.config(tie_word_embeddings=True))
    missing, strange = built.load_state_dict(tiny_llama.part(recorded, name), strict=False)
    assert missing == ["lm_head.weight"]
    assert not strange
    return built


def rows(recorded, method, scored):
    """Return (prompt, completion) of every row as TRL padded it."""
    found = []
    columns = (recorded[f"{method}.{key}"] for key in ("input_ids", "attention_mask", scored))
    for ids, seen, mask in zip(*columns, strict=True):
        learned = (mask == 1) if scored == "completion_mask" else (mask != -100)
        whole, start = ids[seen.bool()].tolist(), int(learned.long().argmax())
        assert int(learned.sum()) == len(whole) - start
        found.append((whole[:start], whole[start:]))
    return found


def check(recorded, method, policy, loss):
    total = loss.per_example.sum() / loss.weight.sum()
    assert total.item() == pytest.approx(recorded[f"{method}.loss"].item(), abs=1e-6)
    total.backward()
    for name, parameter in policy.named_parameters():
        torch.testing.assert_close(parameter.grad, recorded[f"{method}.gradient.{name}"], atol=2e-6, rtol=1e-4)


def test_sft_has_trl_s_loss_and_gradient(recorded):
    values, _ = recorded
    policy = model(values, "policy")
    trees = [Tree(p, [r], [[True] * len(r)]) for p, r in rows(values, "sft", "labels")]
    batch = collate(trees)
    check(values, "sft", policy, sft(Scorer(policy)(batch), batch.groups))


def test_dpo_has_trl_s_loss_and_gradient(recorded):
    values, told = recorded
    policy, reference = model(values, "policy"), model(values, "reference")
    both = rows(values, "dpo", "completion_mask")
    trees = []
    for (prompt, chosen), (same, rejected) in zip(both[: len(both) // 2], both[len(both) // 2 :], strict=True):
        assert prompt == same
        masks = [[True] * len(chosen), [True] * len(rejected)]
        trees.append(Tree(prompt, [chosen, rejected], masks, info={"pairs": [(0, 1)]}))
    batch = collate(trees)
    with torch.no_grad():
        held = Scorer(reference)(batch)
    check(values, "dpo", policy, dpo(Scorer(policy)(batch), held, batch.groups, beta=float(told["beta"])))
