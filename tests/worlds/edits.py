"""W5, the edit world: short texts over ten words, an answer to each of which some words are wrong.

The right answer says the words of the prompt in their order; the source has up to `most` of them replaced by a wrong
word, left out, or followed by one too many.
"""

import random

from kilter.records import Group, Message

WORDS = ("ash", "bay", "cob", "dew", "elm", "fir", "gum", "hay", "ivy", "jam")


class EditWorld:
    """Pairs of a right answer and one that few edits away is wrong, by a seed."""

    def __init__(self, length=4, most=2):
        self.length, self.most = length, most

    def pair(self, draw):
        """Return (target, source)."""
        target = [draw.choice(WORDS) for _ in range(self.length)]
        source = list(target)
        for _ in range(draw.randint(1, self.most)):
            at = draw.randrange(len(source))
            kind = draw.choice(("replace", "delete", "insert")) if len(source) > 1 else "replace"
            if kind == "delete":
                del source[at]
            else:
                source[at : at + (kind == "replace")] = [draw.choice(WORDS)]
        return " ".join(target), " ".join(source)

    def group(self, draw):
        """Return the record: asked to say the words, the right and the wrong answer."""
        target, source = self.pair(draw)
        return Group([Message("user", f"say {target}")], [target, source], ranking=[0, 1])

    def groups(self, count, seed=0):
        draw = random.Random(f"edits {seed}")
        found = (self.group(draw) for _ in range(10 * count))
        return [group for group in found if group.responses[0] != group.responses[1]][:count]
