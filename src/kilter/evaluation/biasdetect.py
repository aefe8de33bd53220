"""Bias detection over collections that label it differently: one question, biased or not, and one score."""

from __future__ import annotations

from kilter.evaluation.cdial import BIAS
from kilter.evaluation.labelled import Task, classify, word
from kilter.evaluation.result import Evaluation
from kilter.evaluation.rows import Row
from kilter.evaluation.sbic import binary
from kilter.models.protocol import Model
from kilter.registry import method

_CDIAL = word("label", {key: "biased" if name == "biased" else "unbiased" for key, name in BIAS.items()})
_CORGI = word("label", {"1": "biased", "0": "unbiased", "biased": "biased", "unbiased": "unbiased"})
_SBIC = binary("offensiveYN")


def gold(row: Row) -> str | None:
    """Return the common label of a row, by the collection it is of: SBIC, CDial-Bias, or one with plain labels."""
    if "offensiveYN" in row:
        said = _SBIC(row)
        return None if said is None else "biased" if said == "yes" else "unbiased"
    if str(row.get("source") or "").lower().startswith("cdial") or "q" in row:
        return _CDIAL(row)
    return _CORGI(row)


TASK = Task(
    "biasdetect", ("biased", "unbiased"), ("text", "post", "sentence", "a"), gold,
    'Is this text biased against a group of people? Answer with "yes" or "no".\n\n{text}', ("yes", "no"),
    {"yes": "biased", "no": "unbiased", "1": "biased", "0": "unbiased", "true": "biased", "false": "unbiased"},
    ("source", "group", "topic", "language"),
)  # fmt: skip


@method("biasdetect", wing="evaluation", paper="arXiv:1911.03891", survey="S1 §8.5")
async def biasdetect(
    model: Model | None = None,
    *,
    data: str,
    prediction: str = "prediction",
    n: int | None = None,
    resamples: int = 500,
    seed: int = 0,
) -> Evaluation:
    """Detect bias in text of SBIC, CDial-Bias and CORGI-PM under one label.

    Biased is, in SBIC, what could offend (a mean of one half or more), in CDial-Bias a biased attitude, in CORGI-PM a
    biased sentence. accuracy, macro_f1, precision, recall and f1 of both labels; the same by source, group, topic and
    language, where rows have them.

    Rows: the collections' own, together if you like, with `source` (sbic, cdial, corgi) where it is not plain; without
    a model also `prediction`.

    Options:
        data: file, folder or hub id of texts
        prediction: name of the column of stored labels
        n: only the first so many texts
        resamples: resamples of the bootstrap
        seed: seed of the resamples
    """
    return await classify(TASK, model, data, prediction=prediction, n=n, resamples=resamples, seed=seed)
