"""Token worlds in which what a start says hardly shows what is good: comparing its responses teaches half of it.

In both a policy comes, by what a preference model knows, to where that model has seen little.
"""

import torch

from worlds.tokens import GOOD, TokenWorld


class Ladder(TokenWorld):
    """A response is worth the number of words with which it goes as "a b c" goes; what comes after an error is nothing.

    Every step is seen only by one who takes the steps before: of seven tokens drawn at random one begins with the
    first, one of 49 goes on to the second, and one of 343 has all three.
    """

    STEPS = ("a", "b", "c")

    def __init__(self, **world):
        super().__init__(**world)
        self.rewards = torch.tensor([self.reward("x", self.text(n)) for n in range(len(self))], dtype=torch.float64)

    def reward(self, prompt, text):
        """Return how many words of `text` are those of the ladder, up to the first that is not."""
        said = [*text.split(), *[""] * len(self.STEPS)]
        return float(next((n for n, step in enumerate(self.STEPS) if said[n] != step), len(self.STEPS)))


class Excess(TokenWorld):
    """One good word is good and two are better, but three are too many: one response of 343 drawn at random has three.

    What is seen is that more is better; a simple preference model carries the line on.
    """

    WORTH = (0.0, 1.0, 2.0, -2.0)

    def __init__(self, **world):
        super().__init__(**world)
        self.rewards = torch.tensor([self.reward("x", self.text(n)) for n in range(len(self))], dtype=torch.float64)

    def reward(self, prompt, text):
        """Return what the good words in `text` are worth together."""
        return self.WORTH[text.split().count(GOOD)]
