"""The chunked head gives what log-softmax over all logits gives, whatever the chunks."""

import pytest
import torch
from torch.nn import functional as F

from kilter.engine import head, tiles
from kilter.engine.head import log_probs


def plain(hidden, weight, bias, targets, scale, softcap, temperature):
    logits = F.linear(hidden, weight, bias) * scale
    if softcap is not None:
        logits = torch.tanh(logits / softcap) * softcap
    logs = torch.log_softmax(logits / temperature, -1)
    return logs.gather(1, targets[:, None])[:, 0], -(logs.exp() * logs).sum(-1)


@pytest.mark.parametrize(("chunk", "side"), [(50, 0), (400, 0), (2**20, 0), (2**20, 5), (2**20, 1024)])
@pytest.mark.parametrize("keep", [0, 2**28])
@pytest.mark.parametrize(
    ("scale", "softcap", "temperature", "biased"),
    [(1.0, None, 1.0, False), (0.5, None, 0.7, True), (2.0, 1.5, 1.0, True), (2.0, 1.5, 0.7, True)],
)
def test_values_and_gradients_do_not_depend_on_chunks(
    monkeypatch, chunk, side, keep, scale, softcap, temperature, biased
):
    """`side` is that of tiles, 0 for whole rows."""
    monkeypatch.setitem(head.CHUNK, "cpu", chunk)
    monkeypatch.setattr(head, "suited", lambda rows, device: side > 0)
    monkeypatch.setattr(tiles, "SIDE", side)
    monkeypatch.setitem(head.KEEP, "cpu", keep)
    torch.manual_seed(0)
    hidden = torch.randn(23, 8, requires_grad=True)
    weight = torch.randn(41, 8, requires_grad=True)
    bias = torch.randn(41, requires_grad=True) if biased else None
    targets, slope, slope2 = torch.randint(0, 41, (23,)), torch.randn(23), torch.randn(23)
    inputs = [x for x in (hidden, weight, bias) if x is not None]
    for entropy in (False, True):
        bent = {"scale": scale, "softcap": softcap, "temperature": temperature}
        found, spread = log_probs(hidden, weight, bias, targets, **bent, entropy=entropy)
        expected, expected_spread = plain(hidden, weight, bias, targets, **bent)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
        total, due = (found * slope).sum(), (expected * slope).sum()
        if entropy:
            torch.testing.assert_close(spread, expected_spread, atol=1e-5, rtol=0)
            total, due = total + (spread * slope2).sum(), due + (expected_spread * slope2).sum()
        for mine, its in zip(torch.autograd.grad(total, inputs), torch.autograd.grad(due, inputs), strict=True):
            torch.testing.assert_close(mine, its, atol=1e-4, rtol=1e-4)


def test_the_slope_of_a_logit_is_softmax_minus_target():
    # With the identity as hidden states, the gradient of the weights' transpose is that of the logits.
    weight = torch.randn(5, 3, requires_grad=True)
    targets = torch.tensor([4, 0, 2])
    found, _ = log_probs(torch.eye(3), weight, None, targets)
    found.sum().neg().backward()
    expected = torch.softmax(weight.detach().T, -1) - F.one_hot(targets, 5)
    torch.testing.assert_close(weight.grad.T, expected)


def test_nothing_scored_is_nothing():
    found, _ = log_probs(
        torch.zeros(0, 4, requires_grad=True), torch.randn(7, 4), None, torch.zeros(0, dtype=torch.long)
    )
    assert found.shape == (0,)
    found.sum().backward()


def test_a_large_vocabulary_goes_by_tiles_in_half_precision():
    """By default, from 16,384 words on. The rounding is that of bf16, and the weights' slope is summed in fp32."""
    assert tiles.suited(head.CHUNK["cpu"] // 20_000, "cpu")
    assert not tiles.suited(head.CHUNK["cpu"] // 4096, "cpu")
    assert not tiles.suited(head.CHUNK["cuda"] // 150_000, "cuda")
    torch.manual_seed(0)
    hidden = torch.randn(70, 16, requires_grad=True)
    weight = torch.randn(20_000, 16, requires_grad=True)
    targets = torch.randint(0, 20_000, (70,))
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = log_probs(hidden, weight, None, targets)
    expected, _ = plain(hidden, weight, None, targets, 1.0, None, 1.0)
    torch.testing.assert_close(found, expected, atol=0.15, rtol=0)
    mine, its = (torch.autograd.grad(x.sum(), [hidden, weight]) for x in (found, expected))
    for one, other in zip(mine, its, strict=True):
        assert one.dtype == torch.float32
        assert (one - other).norm() < 0.02 * other.norm()
