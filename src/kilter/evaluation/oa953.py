"""OpenAssistant's validation questions: every user's turn, with the conversation before it."""

from __future__ import annotations

from kilter.evaluation.judging import Way, run
from kilter.evaluation.options import spread
from kilter.evaluation.questions import Item, drawn, language_of
from kilter.evaluation.result import Evaluation
from kilter.models.protocol import Model
from kilter.records import Demonstration, Group, Message, Prompt, identify
from kilter.registry import method

ROWS = 953  # user turns of the validation split, as QLoRA counted them


@method("oa953", wing="evaluation", paper="arXiv:2305.14314", survey="S1 §8.4, S2 §4.1", aliases=("oa-953",))
@spread(max_tokens=1024, judge_tokens=1024)
async def oa953(model: Model, records: list[Prompt | Demonstration | Group], *, way: Way) -> Evaluation:
    """Score answers to users' turns of OpenAssistant's conversations (Köpf et al. 2023; Dettmers et al. 2023).

    Every user's turn of every conversation is one item, answered with all that was said before it; a turn that several
    conversations share counts once. Judged as Vicuna's questions: with a baseline both answers are scored from 1 to 10
    in both orders (relative, score, win_rate), without one each answer is rated. The judge's biases stand beside it.
    """
    items = drawn(turns_of(records), way.n, way.seed)
    return await run(model, items, way, suite="oa953", judge=way.opened(form="scores"))


def turns_of(records: list[Prompt | Demonstration | Group]) -> list[Item]:
    """Return each user's turn with what was said before it, every one once, in the order of the records."""
    found: dict[str, Item] = {}
    for record in records:
        messages: list[Message] = record.prompt if isinstance(record, Group) else record.messages
        for at, message in enumerate(messages):
            if message.role != "user" or not message.content.strip():
                continue
            name = identify("turn", [m.to_json() for m in messages[: at + 1]])
            language = str(record.meta.get("lang") or record.meta.get("language") or language_of(message.content))
            found.setdefault(name, Item(name, (message.content,), tuple(messages[:at]), (), "", language))
    return list(found.values())
