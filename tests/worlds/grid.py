"""W4, the grid: squares of some terrain, a reward for each terrain, and every way through it of a few steps."""

import itertools

import torch

from kilter.training.mdp import Mdp

MOVES = ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))


class Grid:
    """`rows` are strings of terrains, one letter a square; moves off the edge stay. `slip`: chance of a random move."""

    def __init__(self, rows, horizon, start=(0, 0), slip=0.0, terrains=None):
        self.rows, self.height, self.width = rows, len(rows), len(rows[0])
        self.terrains = terrains or sorted(set("".join(rows)))
        squares = list(itertools.product(range(self.height), range(self.width)))
        self.number = {square: s for s, square in enumerate(squares)}
        certain = torch.zeros(len(squares), len(MOVES), len(squares), dtype=torch.float64)
        features = torch.zeros(len(squares), len(self.terrains), dtype=torch.float64)
        for (r, c), s in self.number.items():
            features[s, self.terrains.index(rows[r][c])] = 1
            for a, (down, right) in enumerate(MOVES):
                there = (min(max(r + down, 0), self.height - 1), min(max(c + right, 0), self.width - 1))
                certain[s, a, self.number[there]] = 1
        moves = (1 - slip) * certain + slip * certain.mean(1, keepdim=True)
        begin = torch.zeros(len(squares), dtype=torch.float64)
        begin[self.number[start]] = 1
        self.mdp = Mdp(moves, begin, features, horizon)

    def weights(self, **of):
        """Return the rewards [d] of terrains by their letters; others are worth 0."""
        return torch.tensor([float(of.get(terrain, 0.0)) for terrain in self.terrains], dtype=torch.float64)

    def runs(self):
        """Return states [N, horizon] and actions [N, horizon - 1] of every run, where moves are certain."""
        found = [([int(self.mdp.start.argmax())], [])]
        for _ in range(self.mdp.horizon - 1):
            step = [(s, a, int(self.mdp.moves[s[-1], k].argmax()), k) for s, a in found for k in range(len(MOVES))]
            found = [([*s, there], [*a, k]) for s, a, there, k in step]
        return torch.tensor([s for s, _ in found]), torch.tensor([a for _, a in found])
