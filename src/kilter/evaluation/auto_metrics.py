"""Metrics of text against references, and of its variety: BLEU, chrF, ROUGE, exact match, F1 of words, distinct-n."""

from __future__ import annotations

import importlib
import math
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from kilter.errors import KilterError
from kilter.evaluation.kappa import Ints, over_items
from kilter.evaluation.matching import same, token_f1
from kilter.evaluation.result import Evaluation, Measure
from kilter.evaluation.rows import LeftOut, Row, read, sample
from kilter.evaluation.statistics import interval
from kilter.registry import method

ROUGE = ("rouge1", "rouge2", "rougeL")


@method("auto-metrics", wing="evaluation", paper="10.3115/1073083.1073135", survey="S1 §8.5", aliases=("bleu", "rouge"))
def auto_metrics(
    *,
    data: str,
    prediction: str = "prediction",
    reference: str = "references",
    tokenize: str = "13a",
    form: str = "plain",
    resamples: int = 200,
    seed: int = 0,
) -> Evaluation:
    """Compare texts with references by what they share (BLEU, Papineni et al. 2002; ROUGE, Lin 2004).

    On long answers such numbers say little. bleu: corpus BLEU of sacrebleu (clipped n-grams up to 4, brevity penalty),
    0 to 100; chrf the same way; rouge1, rouge2, rougeL: mean F1 of rouge-score with stems, the best reference of each
    text; exact: share that equals a reference in the chosen form; f1: SQuAD's F1 of words; distinct_1, distinct_2:
    different n-grams over all of them. Intervals of corpus numbers are percentile ones over texts. An empty prediction
    is scored as it stands.

    Rows: prediction and references (a text or a list). Needs the extra `eval`.

    Options:
        data: file, folder or hub id of texts
        prediction: name of the prediction's column
        reference: name of the references' column
        tokenize: sacrebleu's tokenizer: 13a, zh, ja-mecab, intl, char ...
        form: form in which exact match compares, exact, plain, squad, number, letter ...
        resamples: resamples of the bootstrap
        seed: seed of the resamples
    """
    rows, notes = read(data, (prediction, reference))
    left_out = LeftOut()
    given = [_pair(row, at, prediction, reference, left_out) for at, row in enumerate(rows)]
    pairs = [found for found in given if found is not None]
    if not pairs:
        raise KilterError(f"{data} holds no text with a reference; {' '.join(left_out.notes('texts', len(rows)))}")
    texts, references = [text for _, text, _ in pairs], [right for _, _, right in pairs]
    over = partial(over_items, resamples=resamples, seed=seed)
    measures: dict[str, Measure] = {
        "bleu": over(partial(_corpus, "bleu", texts, references, tokenize), len(pairs)),
        "chrf": over(partial(_corpus, "chrf", texts, references, tokenize), len(pairs)),
    }
    shared = [rouge(text, right) for _, text, right in pairs]
    measures |= {name: interval([found[name] for found in shared]) for name in ROUGE}
    exact = [float(same(text, right, form)) for _, text, right in pairs]
    f1 = [token_f1(text, right) for _, text, right in pairs]
    measures |= {"exact": interval(exact), "f1": interval(f1)}
    for n in (1, 2):
        measures[f"distinct_{n}"] = over(partial(_distinct, texts, n), len(pairs))
    samples = [
        sample(name, found | {"exact": e, "f1": f}, response=text, expected=right[0])
        for (name, text, right), found, e, f in zip(pairs, shared, exact, f1, strict=True)
    ]
    notes += left_out.notes("texts", len(rows))
    return Evaluation("", measures, samples, suite="auto-metrics", seed=seed, notes=notes)


def bleu(texts: Sequence[str], references: Sequence[Sequence[str]], tokenize: str = "13a") -> float:
    """Return corpus BLEU, 0 to 100; `references` [texts][references of one text]."""
    return _corpus("bleu", texts, references, tokenize, np.arange(len(texts)))


def rouge(text: str, references: Sequence[str]) -> dict[str, float]:
    """Return the F1 of ROUGE-1, ROUGE-2 and ROUGE-L, each against the reference that gives the best."""
    scorer = _needed("rouge_score.rouge_scorer").RougeScorer(list(ROUGE), use_stemmer=True)
    found = [scorer.score(right, text) for right in references]
    return {name: max(float(one[name].fmeasure) for one in found) for name in ROUGE}


def distinct(texts: Sequence[str], n: int) -> float:
    """Return the share of different n-grams among all n-grams of all texts (Li et al. 2016); nan where there is none.

    Words stand between spaces; a text without any, as in Chinese, is taken by characters.
    """
    counts: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        words = text.split() if " " in text.strip() else list(text.strip())
        counts.update(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
    return len(counts) / counts.total() if counts else math.nan


def _distinct(texts: Sequence[str], n: int, at: Ints) -> float:
    return distinct([texts[i] for i in at], n)


def _corpus(what: str, texts: Sequence[str], references: Sequence[Sequence[str]], tokenize: str, at: Ints) -> float:
    sacrebleu = _needed("sacrebleu")
    most = max(len(references[i]) for i in at)
    # sacrebleu wants one stream a reference; a text with fewer has None in the rest.
    streams = [[references[i][k] if k < len(references[i]) else None for i in at] for k in range(most)]
    hypotheses = [texts[i] for i in at]
    if what == "chrf":
        return float(sacrebleu.corpus_chrf(hypotheses, streams).score)
    return float(sacrebleu.corpus_bleu(hypotheses, streams, tokenize=tokenize).score)


def _needed(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition(".")[0].replace("_", "-")
        raise KilterError(f"This needs {package}, which is not installed; pip install 'kilter[eval]'.") from None


def _pair(row: Row, at: int, prediction: str, reference: str, left_out: LeftOut) -> tuple[str, str, list[str]] | None:
    """Return the id, the text and its references; None, counted, where there are none."""
    text, right = row.get(prediction), row.get(reference)
    known = [r for r in ([right] if isinstance(right, str) else right or []) if isinstance(r, str) and r]
    if not isinstance(text, str) or not known:
        left_out.add("there is no text or no reference", row.get("id", text))
        return None
    return str(row.get("id", at)), text, known
