"""Laying trees out, cutting a step into micro-batches, dealing them to processes."""

import numpy as np
import pytest
import torch

from kilter.engine.batch import Tree, collate, deal, fill
from kilter.engine.layout import Layout, Segment


def test_a_tree_is_laid_out_once_with_its_prompt_in_front():
    tree = Tree([11, 12, 13], [[21, 22], [31]], [[True, False], [True]], prompt_mask=[True, True, False])
    batch = collate([tree, Tree([], [[41, 42, 43]], [[True] * 3])])
    assert batch.tokens.tolist() == [11, 12, 13, 21, 22, 31, 41, 42, 43]
    assert batch.positions.tolist() == [0, 1, 2, 3, 4, 3, 0, 1, 2]
    # Scored: 12 (of the prompt), 21, 31 (both from the prompt's last token), 42, 43. First tokens have no predictor.
    assert batch.targets.tolist() == [12, 21, 31, 42, 43]
    assert batch.at.tolist() == [0, 2, 2, 6, 7]
    assert batch.owner.tolist() == [0, 0, 1, 2, 2]
    assert batch.lengths.tolist() == [2, 1, 2]
    assert batch.leaves == (1, 2, 3)
    assert batch.groups.group_of.tolist() == [0, 0, 1]


def test_numpy_trees_are_the_same():
    plain = Tree([1, 2], [[3, 4]], [[True, True]])
    arrays = Tree(np.array([1, 2], np.uint16), [np.array([3, 4], np.uint16)], [np.ones(2, bool)])
    one, two = collate([plain]), collate([arrays])
    assert torch.equal(one.tokens, two.tokens)
    assert torch.equal(one.at, two.at)


def test_groups_name_rows_of_the_whole_batch():
    first = Tree([1], [[2], [3]], [[True], [True]], info={"pairs": [(1, 0)], "order": [0.0, 1.0]})
    second = Tree([1], [[2], [3], [4]], [[True]] * 3, info={"pairs": [(0, 1), (0, 2)], "order": [2.0, 1.0, 0.0]})
    groups = collate([first, second]).groups
    assert groups.pairs.tolist() == [[1, 0], [2, 3], [2, 4]]
    assert groups.scores.tolist() == [0, 1, 2, 1, 0]
    assert collate([first, Tree([1], [[2]], [[True]])]).groups.scores is None


def test_a_response_without_tokens_is_refused():
    with pytest.raises(ValueError, match="Response 1 of tree x"):
        collate([Tree([1], [[2], []], [[True], []], info={"id": "x"})])


def test_windows_of_one_length_are_one_call_without_copies():
    batch = collate([Tree([], [list(range(8))], [[True] * 8]) for _ in range(5)])
    plan = batch.layout.plan(torch.device("cpu"))
    (call,) = plan.calls
    assert (call.rows, call.causal, call.queries, plan.order) == (5, True, None, None)


@pytest.mark.parametrize(
    ("lengths", "calls"),
    [
        ([120, 118, 116, 10, 9], [(False, 3), (False, 2), (True, 3), (True, 2)]),
        # What a call costs is more than the padding of short ones.
        ([40, 38, 36, 10, 9], [(False, 5), (True, 5)]),
    ],
)
def test_runs_of_like_length_share_a_call_and_siblings_another(lengths, calls):
    trees = [Tree([1] * 20, [[2] * n, [3] * n], [[True] * n] * 2) for n in lengths]
    plan = collate(trees).layout.plan(torch.device("cpu"))
    assert [(call.causal, call.rows) for call in plan.calls] == calls


def test_every_token_sees_its_branch_up_to_itself():
    # A root, two children, and a grandchild of each; attention by the plan's masks against the definition.
    segments = (Segment(0, 3, -1), Segment(3, 2, 0), Segment(5, 2, 1), Segment(7, 4, 0), Segment(11, 1, 3))
    above = {0: [], 1: [0], 2: [0, 1], 3: [0], 4: [0, 3]}
    layout = Layout(segments, 12)
    plan = layout.plan(torch.device("cpu"))
    seen = torch.zeros(sum(call.query_at.numel() for call in plan.calls), 12, dtype=torch.bool)
    row = 0
    for call in plan.calls:
        for looks, keys in zip(call.mask(None), call.keys, strict=True):
            for look in looks:
                seen[row, keys[look]] = True
                row += 1
    seen = seen[plan.order]
    for number, (start, length, _) in enumerate(segments):
        for token in range(start, start + length):
            expected = set(range(start, token + 1))
            for parent in above[number]:
                expected |= set(range(segments[parent].start, segments[parent].start + segments[parent].length))
            assert set(seen[token].nonzero()[:, 0].tolist()) == expected


def test_micro_batches_keep_to_the_budget_and_hold_everything_once():
    costs = [50, 3, 20, 20, 120, 7, 1]
    batches = fill(costs, 64)
    assert sorted(i for batch in batches for i in batch) == list(range(len(costs)))
    assert all(sum(costs[i] for i in batch) <= 64 or len(batch) == 1 for batch in batches)
    assert batches[0] == [4]


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_every_process_gets_as_many_micro_batches(ranks):
    costs = [30, 10, 25, 5]
    hands = deal(costs, ranks, 32)
    assert len({len(hand) for hand in hands}) == 1
    assert sorted(i for hand in hands for batch in hand for i in batch) == [0, 1, 2, 3]
    assert all(hand for hand in hands)


def test_what_was_sampled_stands_beside_its_tokens():
    masks = [[True, True], [True, False, True]]
    info = {"rewards": [1.0, 0.5], "cut": [0, 1], "behaviour": [np.array([-1.0, -2.0]), [-3.0, -4.0]]}
    one = Tree([1, 2], [[3, 4], [5, 6, 7]], masks, info=info)
    two = Tree([1], [[8]], [[False]], info={"rewards": [0.0], "cut": [0], "behaviour": [[]]})
    batch = collate([one, two])
    assert batch.groups.behaviour.tolist() == [-1, -2, -3, -4]
    assert batch.owner.tolist() == [0, 0, 1, 1]
    assert batch.groups.rewards.tolist() == [1.0, 0.5, 0.0]
    assert batch.groups.cut.tolist() == [0, 1, 0]
    assert batch.groups.values is None
    assert collate([one, Tree([1], [[8]], [[False]])]).groups.behaviour is None
    two.info["behaviour"] = [[-1.0]]
    with pytest.raises(ValueError, match="'behaviour' for other tokens"):
        collate([one, two])
