"""Responses whose worth is known: words that are good, bad or neither; what a reward model has to find out."""

import random

from kilter.records import Group, Message

GOOD, BAD, NEITHER = ("it", "is", "blue"), ("what", "of", "sky"), ("the", "a", "and", "so", "one")


def worth(text):
    words = text.split()
    return sum(word in GOOD for word in words) - 2 * sum(word in BAD for word in words)


def groups(count, seed, k=3):
    """Return groups of k responses, ranked by their worth; never all worth the same."""
    draw = random.Random(seed)
    found = []
    while len(found) < count:
        responses = [" ".join(draw.choice(GOOD + BAD + NEITHER) for _ in range(draw.randrange(2, 6))) for _ in range(k)]
        scores = [float(worth(response)) for response in responses]
        if len(set(scores)) > 1:
            found.append(Group([Message("user", f"say {draw.choice(NEITHER)} {len(found)}")], responses, scores=scores))
    return found


def steps(count, seed):
    """Return responses in two to four steps; a step is right that holds no bad word."""
    draw = random.Random(seed)
    found = []
    for i in range(count):
        lines = [" ".join(draw.choice(NEITHER) for _ in range(3)) for _ in range(draw.randrange(2, 5))]
        lines = [f"{line} {draw.choice(GOOD + BAD)}" for line in lines]
        labels = [not any(word in BAD for word in line.split()) for line in lines]
        meta = {"steps": lines, "step_labels": labels}
        found.append(Group([Message("user", f"count {i}")], ["\n".join(lines)], labels=[all(labels)], meta=meta))
    return found
