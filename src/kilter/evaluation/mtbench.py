"""MT-Bench: single answers graded 1 to 10 over two turns, or pairs in both orders; judged now or from the store."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import replace

from kilter.errors import KilterError
from kilter.evaluation.battles import sides, word
from kilter.evaluation.judging import Way, responses, run
from kilter.evaluation.options import spread
from kilter.evaluation.questions import Item, from_file
from kilter.evaluation.result import Evaluation, Measure
from kilter.evaluation.rows import LeftOut, Row, number, read, sample
from kilter.evaluation.statistics import interval
from kilter.evaluation.verdicts import parse
from kilter.models.protocol import Model, Sampling
from kilter.registry import method

CATEGORIES = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")
FIRST = 81  # the questions are numbered from here, ten a category
REFERENCE = ("math", "reasoning", "coding")  # what the judge is shown a reference answer for
TEMPERATURE = dict.fromkeys(("writing", "roleplay"), 0.7) | dict.fromkeys(("stem", "humanities"), 0.1)


@method("mtbench", wing="evaluation", paper="arXiv:2306.05685", survey="S1 §8.4, S2 §4.2")
@spread(judge=None, max_tokens=1024, judge_tokens=1024)
def mtbench(
    model: Model | None = None,
    *,
    questions: str | None = None,
    references: str | None = None,
    data: str | None = None,
    candidate: str | None = None,
    way: Way,
) -> Evaluation | Awaitable[Evaluation]:
    """Measure a model on MT-Bench's questions of two turns, or score stored judgements of them (Zheng et al. 2023).

    With a model and a judge each turn is answered given those before it, at its category's temperature (0.7 writing
    and roleplay, 0.1 stem and humanities, 0 else, unless --temperature says another), and each answer is judged with
    what came before; in math, reasoning and coding beside the reference. Without a baseline answers are rated, with one
    they are compared. The judge's biases stand beside the score, and its words are kept.

    Single: score is the mean rating over turns and questions, turn_1, turn_2 and each category by itself; the two turns
    of a question are one cluster. A rating that could not be read (-1, or no [[x]] in the text) is left out, counted.
    Pairs: a model wins where it wins in both orders; anything else is a tie, but a game that could not be read is no
    tie: the pair is left out. win_rate: wins and half the ties, win, tie; both orders agree on `consistent` of the
    pairs, and `first` is the share of decided games won by what was shown first.

    Rows of the questions: question_id, category, turns, perhaps reference; of the references: question_id, choices with
    turns. Rows of stored judgements: question_id, turn, model, score (or judgment, the judge's text); or model_1,
    model_2, g1_winner, g2_winner.

    Options:
        questions: the file of the questions, which the model is to answer
        references: the file of the reference answers
        data: file, folder or hub id of stored judgements, in the place of a model and a judge
        candidate: of stored judgements, score this model only
    """
    if model is not None or data is None:
        return _asked(model, questions, references, way)
    rows, notes = read(data, ("question_id",))
    left_out = LeftOut()
    pairs = [row for row in rows if "g1_winner" in row or "g2_winner" in row]
    score = _pairs if pairs else _singles
    measures, samples = score(pairs or rows, left_out, candidate)
    if not measures:
        what = f"of the model '{candidate}'" if candidate else "that can be read"
        why = " ".join(left_out.notes("judgements", len(rows))) or "check the name and the columns."
        raise KilterError(f"{data} holds no judgement {what}; {why}")
    notes = [*notes, *left_out.notes("judgements", len(rows))]
    return Evaluation(candidate or "", measures, samples, suite="mtbench", notes=notes)


async def _asked(model: Model | None, questions: str | None, references: str | None, way: Way) -> Evaluation:
    if model is None or questions is None:
        raise KilterError("Give a model and --questions to be judged, or --data with stored judgements.")
    items, notes = from_file(questions, way.n, way.seed)
    if references is not None:
        told = responses(references)
        items = [replace(item, references=tuple(told[item.id])) if item.id in told else item for item in items]
    bare = sum(item.category in REFERENCE and not item.references for item in items)
    if bare:
        notes.append(f"{bare} questions of {', '.join(REFERENCE)} have no reference; give one by --references.")
    return await run(
        model, items, way, suite="mtbench", notes=notes,
        sampling=lambda item: sampled(item, way), referenced=lambda item: item.category in REFERENCE,
    )  # fmt: skip


def sampled(item: Item, way: Way) -> Sampling:
    """Return how a question is answered: at its category's temperature, unless another is asked for."""
    temperature = way.temperature or TEMPERATURE.get(item.category, 0.0)
    return Sampling(max_tokens=way.max_tokens, temperature=temperature, seed=way.seed)


def category(question: object) -> str:
    """Return the category of a question by its number, an empty text for a number that MT-Bench does not have."""
    place = number(question)
    at = int(place - FIRST) // 10 if place is not None else -1
    return CATEGORIES[at] if 0 <= at < len(CATEGORIES) else ""


def rating(row: Row) -> float | None:
    """Return the rating of a judgement, 1 to 10: that which is stored, else that in the judge's text."""
    stored = number(row.get("score"))
    if stored is not None:
        return stored if 1 <= stored <= 10 else None
    value: float | None = parse("mtbench-score", row.get("judgment")).value
    return value


def verdict(row: Row) -> tuple[float | None, float | None]:
    """Return what each of the two orders gives the first model: 1, 0, one half, or None where it could not be read."""
    return word(row.get("g1_winner"), row), word(row.get("g2_winner"), row)


def merged(first: float | None, second: float | None) -> float | None:
    """Return the verdict of a pair from its two orders: None unless both were read, a tie unless both say the same."""
    if first is None or second is None:
        return None
    return first if first == second else 0.5


Found = tuple[dict[str, Measure], list[Row]]


def _singles(rows: Sequence[Row], left_out: LeftOut, candidate: str | None) -> Found:
    by_model: dict[str, list[tuple[Row, float]]] = {}
    for row in rows:
        name = str(row.get("model", "model"))
        if candidate is not None and name != candidate:
            continue
        value = rating(row)
        if value is None:
            left_out.add("the rating could not be read", row.get("score", row.get("judgment")))
        else:
            by_model.setdefault(name, []).append((row, value))
    measures: dict[str, Measure] = {}
    samples: list[Row] = []
    means = {name: sum(v for _, v in found) / len(found) for name, found in by_model.items()}
    for name in sorted(by_model, key=lambda name: -means[name]):
        end = f":{name}" if len(by_model) > 1 else ""
        found = by_model[name]
        measures[f"score{end}"] = _mean(found)
        for turn in (1, 2):
            part = [(row, v) for row, v in found if number(row.get("turn", 1)) == turn]
            if part:
                measures[f"turn_{turn}{end}"] = _mean(part)
        for kind in CATEGORIES:
            part = [(row, v) for row, v in found if category(row["question_id"]) == kind]
            if part:
                measures[f"{kind}{end}"] = _mean(part)
        samples += [_single_sample(row, value, name if end else "") for row, value in found]
    return measures, samples


def _mean(found: Sequence[tuple[Row, float]]) -> Measure:
    questions = [str(row["question_id"]) for row, _ in found]
    clusters = questions if len(set(questions)) < len(questions) else None
    return interval([value for _, value in found], clusters=clusters)


def _single_sample(row: Row, value: float, model: str) -> Row:
    question = str(row["question_id"])
    name = f"{model}/{question}/{row.get('turn', 1)}" if model else f"{question}/{row.get('turn', 1)}"
    text = str(row.get("judgment") or "")
    return sample(name, {"score": value}, family=category(question), cluster=f"{model}/{question}", judgement=text)


def _pairs(rows: Sequence[Row], left_out: LeftOut, candidate: str | None) -> Found:
    shares: dict[str, list[tuple[str, float, str]]] = {}
    agree: list[float] = []
    first_won: list[float] = []
    for row in rows:
        pair = sides(row)
        if pair is None or (candidate is not None and candidate not in pair):
            continue
        one, two = verdict(row)
        share = merged(one, two)
        if share is None or one is None or two is None:
            left_out.add("a game could not be read", f"{row.get('g1_winner')}, {row.get('g2_winner')}")
            continue
        agree.append(float(one == two))
        # In the second game the second model was shown first.
        first_won += [won for won in (one, 1 - two) if won != 0.5]
        question, name = str(row["question_id"]), f"{row['question_id']}/{row.get('turn', 1)}"
        for who, value in ((str(pair[0]), share), (str(pair[1]), 1 - share)):
            if candidate is None or who == candidate:
                other = str(pair[1] if who == str(pair[0]) else pair[0])
                shares.setdefault(who, []).append((question, value, f"{other}/{name}"))
    if not shares:
        return {}, []
    measures: dict[str, Measure] = {}
    samples: list[Row] = []
    for name in sorted(shares, key=lambda name: -sum(v for _, v, _ in shares[name]) / len(shares[name])):
        end = f":{name}" if len(shares) > 1 else ""
        questions, values = [q for q, _, _ in shares[name]], [v for _, v, _ in shares[name]]
        clusters = questions if len(set(questions)) < len(questions) else None
        measures[f"win_rate{end}"] = interval(values, clusters=clusters)
        measures[f"win{end}"] = interval([float(v == 1) for v in values], clusters=clusters)
        measures[f"tie{end}"] = interval([float(v == 0.5) for v in values], clusters=clusters)
        samples += [
            sample(f"{name}/{where}" if end else where, {"win_rate": v}, family=category(q), cluster=q)
            for q, v, where in shares[name]
        ]
    measures["consistent"] = interval(agree)
    if first_won:
        measures["first"] = interval(first_won)
    return measures, samples
