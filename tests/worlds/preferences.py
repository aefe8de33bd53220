"""W3, the preference simulator: annotators who follow a known reward, with known faults."""

import math
import random

from kilter.records import Group


class Annotator:
    """Prefers the first of two responses with probability sigma((r1 - r2) / tau), then errs as told.

    `flip`: the share of answers turned round at random. `length_bias`: what a response gains for each word that it is
    longer. `poisoned`: the share of pairs on which the annotator answers against the reward, for certain.
    """

    def __init__(self, tau=1.0, flip=0.0, length_bias=0.0, poisoned=0.0, seed=0):
        self.tau, self.flip, self.length_bias, self.poisoned = tau, flip, length_bias, poisoned
        self.draw = random.Random(seed)

    def chance(self, first, second, longer=0):
        """Return the probability that the first is said to be better; rewards, and by how many words it is longer."""
        lead = (first - second + self.length_bias * longer) / self.tau
        clean = 1 / (1 + math.exp(-lead)) if lead > -700 else 0.0
        noisy = clean * (1 - self.flip) + (1 - clean) * self.flip
        against = 0.5 if first == second else float(first < second)
        return noisy * (1 - self.poisoned) + against * self.poisoned

    def prefers(self, first, second, longer=0):
        """Return whether the first is said to be better."""
        return self.draw.random() < self.chance(first, second, longer)

    def pair(self, prompt, one, other, rewards):
        """Return the group of a prompt (messages) with two responses (texts) as this annotator judges them."""
        longer = len(one.split()) - len(other.split())
        first = self.prefers(*rewards, longer)
        return Group(list(prompt), [one, other], ranking=[0, 1] if first else [1, 0])


def bayes_accuracy(leads, tau=1.0):
    """Return the share of labels that one who knows the rewards foretells, given the leads r1 - r2 of the pairs."""
    return sum(1 / (1 + math.exp(-abs(lead) / tau)) for lead in leads) / len(leads)
