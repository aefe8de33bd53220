"""A rollout: the responses that a policy gave in one phase, with what is known of them; and its place on the disk.

A rollout is kept while a step of it, or of the phase after it, may have to be taken again: training that is continued
in the middle of a phase learns from the very responses that it would have learned from, and nothing that a judge was
paid for is asked again. Tensors are safetensors, the rest is JSON.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from kilter.engine.batch import BY_TOKEN, Tree
from kilter.engine.checkpoint import writing
from kilter.engine.feed import ROLLOUTS
from kilter.files import replacing

# What trees bring for every response beside its reward: whether it was cut, what further judges said, a distribution's
# log-prob that is aimed at, and what is taken off as a baseline.
BY_RESPONSE = ("rewards", "cut", "gold", "cost", "target", "baseline")


@dataclass(slots=True)
class Rollout:
    """The trees of one phase, and what a method carries from phase to phase.

    `state` are plain numbers, which stand in the metrics; `memory` is whatever else a method has to remember, as JSON
    can hold it; `told` is what there is to say of all that was sampled, whatever is learned of it. In `Tree.info` each
    tree has "id", for each response "rewards" and "cut", and arrays for its scored tokens under the names of
    `BY_TOKEN`; where pairs are learned from "pairs".
    """

    trees: list[Tree]
    state: dict[str, float] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)
    told: dict[str, float] = field(default_factory=dict)

    def flat(self, name: str) -> np.ndarray:
        """Return what is known under `name`, of all scored tokens [P] or of all responses [R], tree by tree."""
        parts = [np.asarray(part, dtype=np.float64) for tree in self.trees for part in tree.info[name]]
        return np.concatenate([part.reshape(-1) for part in parts]) if parts else np.empty(0)

    @property
    def lengths(self) -> np.ndarray:
        """The scored tokens of each response [R]."""
        return np.array([sum(mask) for tree in self.trees for mask in tree.masks], dtype=np.int64)

    def put(self, name: str, numbers: np.ndarray) -> None:
        """Give every response its part of `numbers` [P], one a scored token, under `name`."""
        parts = iter(np.split(numbers.astype(np.float32), np.cumsum(self.lengths)[:-1]))
        for tree in self.trees:
            tree.info[name] = [next(parts) for _ in tree.responses]

    def keep(self, chosen: Sequence[Sequence[int]]) -> None:
        """Keep of each tree the responses `chosen`, in that order; trees of which none is chosen go.

        Where nothing would be left one tree stays of which nothing is learned: a step has to have one.
        """
        found = [_part(tree, rows) for tree, rows in zip(self.trees, chosen, strict=True) if rows]
        if not found and self.trees:
            found = [_part(self.trees[0], [0])]
            found[0].masks = [[False] * len(found[0].responses[0])]
            for name in BY_TOKEN:
                if name in found[0].info:
                    found[0].info[name] = [np.empty(0, dtype=np.float32)]
        self.trees = found


def _part(tree: Tree, rows: Sequence[int]) -> Tree:
    """Return the tree with its responses `rows` alone."""
    names = [name for name in (*BY_RESPONSE, *BY_TOKEN) if name in tree.info]
    info = {name: [tree.info[name][k] for k in rows] for name in names}
    responses, masks = [tree.responses[k] for k in rows], [tree.masks[k] for k in rows]
    return Tree(tree.prompt, responses, masks, tree.prompt_mask, {"id": tree.info["id"], **info})


def summary(rollout: Rollout, judges: Sequence[str] = ()) -> dict[str, float]:
    """Return the mean and spread of a rollout's rewards, the share `alike`, and the means of what `judges` said.

    `alike` is the share of prompts all of whose responses earned the same: they teach a group nothing. Where the
    reference policy is known sampled_kl is log mu - log pi_ref of a response, on average: KL(mu || pi_ref) in nats.
    """
    groups = [tree.info["rewards"] for tree in rollout.trees]
    rewards = rollout.flat("rewards")
    told = {
        "sampled_reward": float(rewards.mean()),
        "reward_std": float(rewards.std()),
        "alike": sum(min(group) == max(group) for group in groups) / max(1, len(groups)),
    }
    for name in judges:
        said = rollout.flat(name)
        known = said[~np.isnan(said)]  # what is measured alone may be missing
        told |= {name: float(known.mean())} if known.size else {}
    if "reference" in rollout.trees[0].info:
        away = rollout.flat("behaviour").sum() - rollout.flat("reference").sum()
        told["sampled_kl"] = float(away) / max(1, int((rollout.lengths > 0).sum()))
    return told


def path(out: Path, phase: int) -> Path:
    """Return where the rollout of a phase is kept."""
    return out / ROLLOUTS / f"phase-{phase:06d}.safetensors"


def write(file: Path, rollout: Rollout, mark: str) -> None:
    """Keep `rollout`, whole or not at all. `mark` names the run."""
    trees = rollout.trees
    responses = [response for tree in trees for response in tree.responses]
    tensors = {
        "prompts": _row([token for tree in trees for token in tree.prompt]),
        "responses": _row([token for response in responses for token in response]),
        "scored": _row([bool(m) for tree in trees for mask in tree.masks for m in mask], torch.bool),
        "prompt_lengths": _row([len(tree.prompt) for tree in trees]),
        "response_lengths": _row([len(response) for response in responses]),
        "counts": _row([len(tree.responses) for tree in trees]),
    }
    names = [name for name in (*BY_RESPONSE, *BY_TOKEN) if trees and name in trees[0].info]
    for name in names:
        kind = torch.float32 if name in BY_TOKEN else torch.float64
        tensors[f"info.{name}"] = torch.from_numpy(rollout.flat(name)).to(kind)
    told = {
        "mark": mark,
        "trees": json.dumps([[tree.info["id"], tree.info.get("pairs")] for tree in trees]),
        "carried": json.dumps([rollout.state, rollout.memory, rollout.told], ensure_ascii=False),
    }
    with writing(file.parent), replacing(file) as temporary:
        save_file(tensors, temporary, metadata=told)


def read(file: Path, mark: str) -> Rollout | None:
    """Return the rollout that is kept in `file`, or None where there is none of this run."""
    try:
        with safe_open(file, "pt") as handle:
            told = handle.metadata() or {}
            if told.get("mark") != mark:
                return None
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError):
        return None
    counts = tensors["counts"].tolist()
    prompts = tensors["prompts"].split(tensors["prompt_lengths"].tolist())
    lengths = tensors["response_lengths"].tolist()
    responses, masks = (iter(tensors[name].split(lengths)) for name in ("responses", "scored"))
    trees = [
        Tree(
            prompt.tolist(),
            [next(responses).tolist() for _ in range(count)],
            [next(masks).tolist() for _ in range(count)],
            info={"id": identity} if pairs is None else {"id": identity, "pairs": [tuple(pair) for pair in pairs]},
        )
        for prompt, count, (identity, pairs) in zip(prompts, counts, json.loads(told["trees"]), strict=True)
    ]
    rollout = Rollout(trees, *json.loads(told["carried"]))
    for name in [name.removeprefix("info.") for name in tensors if name.startswith("info.")]:
        numbers = tensors[f"info.{name}"].numpy()
        if name in BY_TOKEN:
            rollout.put(name, numbers)
        else:
            for tree, part in zip(trees, np.split(numbers, np.cumsum(counts)[:-1]), strict=True):
                tree.info[name] = part.tolist()
    return rollout


def trim(out: Path, phase: int) -> None:
    """Delete the rollouts of phases before `phase`."""
    for file in (out / ROLLOUTS).glob("phase-*.safetensors"):
        if file.name < path(out, phase).name:
            file.unlink(missing_ok=True)


def _row(values: Sequence[Any], kind: torch.dtype = torch.int64) -> torch.Tensor:
    return torch.tensor(values, dtype=kind)
