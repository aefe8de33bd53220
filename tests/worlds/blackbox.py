"""W6, the black box: a model of which nothing but its answers is known, and which does what it is hinted at or told."""

from kilter.models.protocol import Answer

WANTED = {"x": "a", "y": "c"}  # the keyword that a prompt's good answer needs
DRAFTS = {"x": "b a c", "y": "a c b"}  # what the box puts in order by itself


class Hinted:
    """Answers "good" where the hint holds the prompt's keyword and no bad word, else "poor"; without one, "poor"."""

    name = "hinted"

    def __init__(self):
        self.asked = []

    async def ask(self, messages, sampling):
        text = messages[-1].content
        self.asked.append(text)
        request, _, hint = text.partition("\n\nHint: ")
        said = hint.split()
        good = WANTED[request.strip()] in said and "b" not in said
        return [Answer("good" if good else "poor", 1, [], "stop") for _ in range(sampling.n)]


class Sorter:
    """Says letters in some order; told "p q", it puts p before q, and does nothing else."""

    name = "sorter"

    async def ask(self, messages, sampling):
        text = messages[-1].content
        if "Answer so far: " not in text:
            return [Answer(DRAFTS[text.strip()], 1, [], "stop")]
        draft = text.partition("Answer so far: ")[2].partition("\n")[0].split()
        told = text.partition("Feedback: ")[2].partition("\n")[0].split()
        if len(told) >= 2 and {*told[:2]} <= {*draft} and told[0] != told[1]:
            draft.remove(told[0])
            draft.insert(draft.index(told[1]), told[0])
        return [Answer(" ".join(draft), 1, [], "stop")]
