"""Published numbers, computed again from the raw material that was published with them.

Each source is a function from a folder to figures. A folder holds what is there of each source, in the layout below; a
file whose figure nobody has published is told, not compared.

    alpaca_eval2_annotations*.jsonl, alpaca_eval2_leaderboard*.jsonl     pandalm/*testset-v1.jsonl
    llmbar/SET_JUDGE.jsonl, .statistics.json, SET_dataset.jsonl          halluqa/MODEL_output*.jsonl
    bbh_codex/TASK_direct.jsonl, TASK_cot.jsonl                          gsm8k_example_model_solutions.jsonl
    ifeval/MODEL.jsonl                                                   vicuna_reviews/*review_A_B.jsonl
    cherry/*_reviews_*.json
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kilter.errors import KilterError
from kilter.evaluation import kappa
from kilter.evaluation import published_figures as known
from kilter.evaluation.alpacaeval import collect, counted
from kilter.evaluation.classification import confusion, precision_recall
from kilter.evaluation.matching import after_answer_is, same
from kilter.evaluation.pandalm import CLASSES, majority, verdicts
from kilter.evaluation.rows import LeftOut, Row, number, read
from kilter.evaluation.verdicts import parse

HALF = 0.5 + 1e-9  # of the last digit that is printed
EXACT = 1e-6


@dataclass(frozen=True, slots=True)
class Figure:
    """One published number and ours; they agree where they differ by no more than the tolerance."""

    name: str
    published: float
    ours: float
    tolerance: float

    @property
    def agrees(self) -> bool:
        return abs(self.published - self.ours) <= self.tolerance

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "published": self.published, "ours": self.ours, "tolerance": self.tolerance}


Found = tuple[list[Figure], list[str]]


def recomputed(data: str | Path) -> Found:
    """Return every figure that can be computed from `data` (or its folder `published`), and notes on what cannot.

    Raises KilterError where nothing of any source is there.
    """
    folder = Path(data)
    folder = folder / "published" if (folder / "published").is_dir() else folder
    if not folder.is_dir():
        raise KilterError(f"{folder} is no folder; give the one with the published material, --data DIR.")
    figures: list[Figure] = []
    notes: list[str] = []
    for source in SOURCES:
        found, said = source(folder)
        figures += found
        notes += said
    if not figures and not notes:
        raise KilterError(
            f"{folder} holds nothing of a published source, such as alpaca_eval2_annotations*.jsonl, pandalm or "
            "llmbar; give another --data DIR."
        )
    return figures, notes


def alpaca_eval(folder: Path) -> Found:
    """AlpacaEval 2: every number of a model's row but the length-controlled one, whose ingredients are not public."""
    figures, notes = [], []
    for file in sorted(folder.glob("alpaca_eval2_annotations*.jsonl")):
        board = file.with_name(file.name.replace("annotations", "leaderboard"))
        if not board.exists():
            notes.append(f"{file.name} has no leaderboard beside it.")
            continue
        models = collect(read(file)[0], LeftOut())
        instructions = max(len(one.share) for one in models.values())
        for row in read(board)[0]:
            name = str(row.get("model"))
            if name not in models:
                notes.append(f"AlpacaEval: {name} has no annotations.")
                continue
            one = models[name]
            # What was not judged is an empty output, which counts in the mean length alone.
            ours = counted(one.share, [*one.length, *[0.0] * (instructions - len(one.length))])
            for key in ours.__dataclass_fields__:
                printed, mine = number(row.get(key)), getattr(ours, key)
                if printed is not None and mine is not None:
                    figures.append(Figure(f"AlpacaEval 2, {name}, {key}", printed, float(mine), EXACT))
    return figures, notes


def pandalm(folder: Path) -> Found:
    """PandaLM: what three people say, how they agree, and two judges against their majority."""
    gold_file = folder / "pandalm" / "testset-v1.jsonl"
    if not gold_file.exists():
        return [], []
    rows, _ = read(gold_file)
    people = ("annotator1", "annotator2", "annotator3")
    gold = {str(row["idx"]): majority([row.get(name) for name in people]) for row in rows}
    figures = [
        Figure(f"PandaLM, labels, {name}", count, sum(label == name for label in gold.values()), 0)
        for name, count in known.PANDALM_LABELS.items()
    ]
    for (first, second), value in known.PANDALM_KAPPA.items():
        ours = kappa.cohen([row[first] for row in rows], [row[second] for row in rows], 3)
        figures.append(Figure(f"PandaLM, kappa, {first} and {second}", value, ours, HALF * 0.01))
    notes = []
    for file in sorted((folder / "pandalm").glob("*-testset-v1.jsonl")):
        judge = file.name.removesuffix("-testset-v1.jsonl")
        said, _ = verdicts(str(file), None, official=True)
        keys = [idx for idx, label in gold.items() if label is not None and idx in said]
        place = {name: at for at, name in enumerate(CLASSES)}
        truth = np.array([place[str(gold[idx])] for idx in keys])
        predicted = np.array([place.get(str(said[idx]), len(CLASSES)) for idx in keys])
        precision, recall, f1 = precision_recall(confusion(truth, predicted, len(CLASSES)))
        numbers = [float((truth == predicted).mean()), *(float(x.mean()) for x in (precision, recall, f1))]
        if judge not in known.PANDALM_JUDGES:
            notes.append(f"PandaLM: no figures of {judge} are published; its accuracy here is {100 * numbers[0]:.2f}.")
            continue
        names = ("accuracy", "precision", "recall", "F1")
        for name, printed, mine in zip(names, known.PANDALM_JUDGES[judge], numbers, strict=True):
            figures.append(Figure(f"PandaLM, {judge}, {name}", printed, 100 * mine, HALF * 0.01))
    return figures, notes


def llmbar(folder: Path) -> Found:
    """LLMBar: accuracy with each order of the outputs, both right, both the same, and their agreement beyond chance."""
    figures: list[Figure] = []
    empty: list[str] = []
    for statistics in sorted((folder / "llmbar").glob("*.statistics.json")):
        name = statistics.name.removesuffix(".statistics.json")
        judged = statistics.with_name(f"{name}.jsonl")
        printed = json.loads(statistics.read_text(encoding="utf-8"))
        rows = read(judged)[0] if judged.exists() else []
        gold = _llmbar_gold(statistics.parent, name, rows)
        pairs = [(winner(row, False), winner(row, True)) for row in rows]
        if not gold or len(gold) != len(pairs) or all(pair == (None, None) for pair in pairs):
            empty.append(name)
            continue
        ours = llmbar_statistics(pairs, gold)
        for key, value in printed.items():
            mine = ours.get(key)
            theirs = _percent(value)
            if mine is not None and theirs is not None:
                figures.append(Figure(f"LLMBar, {name}, {key}", theirs, mine, EXACT))
    if empty:
        shown = ", ".join(empty[:3]) + (" ..." if len(empty) > 3 else "")
        return figures, [f"LLMBar: {len(empty)} files hold no verdict to compute anything from ({shown})."]
    return figures, []


def llmbar_statistics(pairs: Sequence[tuple[str | None, str | None]], gold: Sequence[str]) -> dict[str, float]:
    """Return LLMBar's statistics in percent (kappa as it is); a verdict that could not be read is wrong.

    Its kappas against the gold labels are left out: the script compares codes 0 and 1 with labels 1 and 2 there.
    """
    n = len(gold)
    right = [(a == label, b == label) for (a, b), label in zip(pairs, gold, strict=True)]
    first, second = (100 * sum(r[k] for r in right) / n for k in (0, 1))
    codes = [[int(pair[k] == "1") for pair in pairs] for k in (0, 1)]
    return {
        "correct_False": first,
        "correct_True": second,
        "correct_average": (first + second) / 2,
        "correct_both": 100 * sum(a and b for a, b in right) / n,
        "equal": 100 * sum(a == b for a, b in pairs) / n,
        "kappa_agreement": kappa.cohen(codes[0], codes[1], 2),
    }


def winner(row: Row, swapped: bool) -> str | None:
    """Return the better output, "1" or "2", in LLMBar's result.json or a flat row; None where none was read."""
    found: Any = row.get(f"swap_{swapped}", row.get(f"swap = {swapped}"))
    results = row.get("results")
    if found is None and isinstance(results, list) and results and isinstance(results[-1], dict):
        found = results[-1].get(f"swap = {swapped}")
    if isinstance(found, dict):
        found = found.get("winner")
    return str(found) if str(found) in ("1", "2") else None


def halluqa(folder: Path) -> Found:
    """HalluQA: the share of answers without a hallucination; what the judge could not decide is not without."""
    figures, notes = [], []
    for file in sorted((folder / "halluqa").glob("*.jsonl")):
        rows, _ = read(file, ("is_hallucination",))
        rate = 100 * sum(row.get("is_hallucination") is False for row in rows) / len(rows)
        name = file.stem.removesuffix("_qa_prompt").removesuffix("_output").lower()
        if name in known.HALLUQA:
            figures.append(Figure(f"HalluQA, {name}", known.HALLUQA[name], rate, HALF * 0.01))
        else:
            notes.append(f"HalluQA: no figure of {name} is published; it is {rate:.2f} here.")
    return figures, notes


def bbh_codex(folder: Path) -> Found:
    """BIG-Bench Hard: code-davinci-002, with and without a chain of thought, by exact match."""
    figures, notes = [], []
    for file in sorted((folder / "bbh_codex").glob("*.jsonl")):
        task, _, kind = file.stem.rpartition("_")
        if task not in known.BBH_CODEX or kind not in ("direct", "cot"):
            notes.append(f"BIG-Bench Hard: no figure of {file.stem} is published.")
            continue
        rows, _ = read(file, ("prediction", "target"))
        form = after_answer_is if kind == "cot" else str.strip
        hits = [form(str(row["prediction"])) == str(row["target"]).strip() for row in rows]
        printed = known.BBH_CODEX[task][kind == "cot"]
        figures.append(
            Figure(f"BBH, code-davinci-002, {task}, {kind}", printed, 100 * sum(hits) / len(hits), HALF * 0.01)
        )
    return figures, notes


def gsm8k(folder: Path) -> Found:
    """GSM8K: problems that four models solved, graded anew, and on how many the stored verdict is another."""
    file = folder / "gsm8k_example_model_solutions.jsonl"
    if not file.exists():
        return [], []
    rows, _ = read(file, ("ground_truth",))
    figures = []
    for name, printed in known.GSM8K.items():
        given = [row for row in rows if isinstance(row.get(name), dict)]
        if not given:
            continue
        right = [same(row[name].get("solution"), [row["ground_truth"]], "solution") for row in given]
        figures.append(Figure(f"GSM8K, {name}, solved", printed, 100 * sum(right) / len(right), HALF * 0.01))
        apart = sum(hit != row[name].get("is_correct") for hit, row in zip(right, given, strict=True))
        figures.append(Figure(f"GSM8K, {name}, verdicts that differ", 0, apart, 0))
    return figures, []


def ifeval(folder: Path) -> Found:
    """IFEval: the share of instructions followed, from the stored verdicts."""
    figures, notes = [], []
    for file in sorted((folder / "ifeval").glob("*.jsonl")):
        rows, _ = read(file, ("follow_instruction_list",))
        said = [bool(x) for row in rows for x in row["follow_instruction_list"]]
        whole = [all(row["follow_instruction_list"]) for row in rows]
        rate = 100 * sum(said) / len(said)
        if file.stem in known.IFEVAL:
            figures.append(
                Figure(f"IFEval, {file.stem}, strict, instructions", known.IFEVAL[file.stem], rate, HALF * 0.1)
            )
        else:
            notes.append(f"IFEval: no figure of {file.stem} is published; {rate:.2f} of its instructions are followed.")
        stored = [row.get("follow_all_instructions") for row in rows]
        if None not in stored:
            apart = sum(a != b for a, b in zip(whole, stored, strict=True))
            figures.append(Figure(f"IFEval, {file.stem}, prompts whose verdicts contradict", 0, apart, 0))
    return figures, notes


def vicuna(folder: Path) -> Found:
    """The Vicuna post: GPT-4's scores of two models, read from the first line of each review and added up.

    The answers to mathematics were reviewed by another prompt, which states no scores there; those read by its authors
    stand beside the text and are taken. Where both are there they have to be the same.
    """
    figures, notes = [], []
    for file in sorted((folder / "vicuna_reviews").glob("*.jsonl")):
        rows, _ = read(file, ("text",))
        parsed = [parse("vicuna-scores@1", row["text"]).value for row in rows]
        stored = [row.get("score") if isinstance(row.get("score"), list) else None for row in rows]
        scores = [found for a, b in zip(parsed, stored, strict=True) if (found := a or b) is not None]
        totals = [sum(pair[k] for pair in scores) for k in (0, 1)]
        apart = sum(a is not None and b is not None and a != b for a, b in zip(parsed, stored, strict=True))
        figures.append(Figure(f"Vicuna post, {file.stem}, scores that are read otherwise", 0, apart, 0))
        key = next((name for name in known.VICUNA if file.stem.endswith(name)), None)
        if key is None:
            notes.append(f"Vicuna: no totals of {file.stem} are published; they are {totals[0]:g} and {totals[1]:g}.")
            continue
        for side, printed, mine in zip(("first", "second"), known.VICUNA[key], totals, strict=True):
            figures.append(Figure(f"Vicuna post, {key.removeprefix('review_')}, {side}", printed, mine, EXACT))
    return figures, notes


def cherry(folder: Path) -> Found:
    """Cherry's pairwise reviews: mean scores of both models in both orders, read again from the reviews' text."""
    figures, notes = [], []
    for file in sorted((folder / "cherry").glob("*.json")):
        whole = json.loads(file.read_text(encoding="utf-8"))
        for key, meta in (("review", "average_scores"), ("review_reverse", "average_scores_reverse")):
            printed = json.loads(whole["Meta_Info"].get(meta, "null"))
            found = [parse("vicuna-scores", row.get(key)) for row in whole["data"]]
            read_ = [one.value for one in found if one.ok]
            if len(read_) < len(found):
                notes.append(f"Cherry, {file.stem}: {len(found) - len(read_)} texts of {key} hold no scores.")
            for side in (0, 1) if printed and read_ else ():
                mine = sum(pair[side] for pair in read_) / len(read_)
                figures.append(Figure(f"Cherry, {file.stem}, {meta}, {side + 1}", printed[side], mine, EXACT))
    return figures, notes


def _llmbar_gold(folder: Path, name: str, rows: Sequence[Row]) -> list[str]:
    """The right answers: beside the verdicts, or in the data set whose name the file's begins with."""
    if rows and all("label" in row for row in rows):
        return [str(row["label"]) for row in rows]
    sets = [
        path for path in folder.glob("*_dataset.jsonl") if name.startswith(path.name.removesuffix("_dataset.jsonl"))
    ]
    if not sets:
        return []
    return [str(row["label"]) for row in read(max(sets, key=lambda path: len(path.name)))[0]]


def _percent(value: Any) -> float | None:
    """The last number of "94 / 100 = 94.0%", or the number itself."""
    if isinstance(value, str):
        return number(value.rpartition("=")[2].strip().removesuffix("%"))
    return number(value)


SOURCES: tuple[Callable[[Path], Found], ...] = (
    alpaca_eval, pandalm, llmbar, halluqa, bbh_codex, gsm8k, ifeval, vicuna, cherry
)  # fmt: skip
