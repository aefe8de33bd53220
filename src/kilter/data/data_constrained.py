"""How often limited data may be repeated, and what is gained by it."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from scipy.optimize import minimize_scalar

from kilter.data.mixture import told
from kilter.data.sieve import Record, said
from kilter.data.tokens import tokenise
from kilter.errors import KilterError
from kilter.notes import tell
from kilter.registry import method


@dataclass(frozen=True)
class Law:
    """L = E + A / N'^alpha + B / D'^beta, with the paper's fit; r_d and r_n are R_D* and R_N*."""

    a: float = 6.255414
    b: float = 7.3049974
    e: float = 0.6254804
    alpha: float = 0.3526596
    beta: float = 0.3526596
    r_d: float = 15.387756
    r_n: float = 5.309743

    def loss(self, parameters: float, tokens: float, unique: float = math.inf) -> float:
        """Return the predicted loss (nats a token) of N parameters on D tokens of which `unique` are different."""
        return (
            math.exp(self.e)
            + math.exp(self.a) / self.worth_of_parameters(parameters, min(tokens, unique)) ** self.alpha
            + math.exp(self.b) / self.worth_of_tokens(tokens, unique) ** self.beta
        )

    def worth_of_tokens(self, tokens: float, unique: float) -> float:
        """Return D' = U_D (1 + R_D* (1 - exp(-R_D / R_D*))): as many new tokens would be worth as much."""
        different = min(tokens, unique)
        return different * (1 + self.r_d * (1 - math.exp(-(tokens / different - 1) / self.r_d)))

    def worth_of_parameters(self, parameters: float, different: float) -> float:
        """Return N' = U_N (1 + R_N* (1 - exp(-R_N / R_N*))); U_N is what `different` tokens are enough for."""
        useful = min(parameters, self.parameters_for(different))
        return useful * (1 + self.r_n * (1 - math.exp(-(parameters / useful - 1) / self.r_n)))

    def parameters_for(self, tokens: float) -> float:
        """Return the number of parameters that is best for D different tokens, (D G)^(beta / alpha) G."""
        ratio = self.alpha * math.exp(self.a) / (self.beta * math.exp(self.b))
        g = ratio ** (1 / (self.alpha + self.beta))
        return float((tokens * g) ** (self.beta / self.alpha) * g)

    def best(self, compute: float, unique: float) -> tuple[float, float]:
        """Return the parameters N and tokens D of lowest loss at 6 N D = `compute` FLOPs."""

        def at(log_tokens: float) -> float:
            tokens = math.exp(log_tokens)
            return self.loss(compute / (6 * tokens), tokens, unique)

        # Between one token a parameter and ten thousand.
        low, high = (math.log(math.sqrt(compute / 6 * ratio)) for ratio in (1.0, 1e4))
        tokens = math.exp(minimize_scalar(at, bounds=(low, high), method="bounded", options={"xatol": 1e-10}).x)
        return compute / (6 * tokens), tokens


@method("data-constrained", wing="data", paper="arXiv:2305.16264", survey="S2 §2.4")
def data_constrained(
    records: list[Record],
    *,
    tokens: Annotated[int, Field(gt=0)],
    parameters: Annotated[float, Field(gt=0)],
    most_epochs: Annotated[float, Field(ge=1)] = 4.0,
    code: str = "",
    code_share: Annotated[float, Field(ge=0, le=0.5)] = 0.5,
    seed: int = 0,
) -> list[Record]:
    """Fill a budget of tokens from data that is too little for it (Muennighoff et al. 2023).

    Up to four epochs repeated tokens are worth nearly as much as new ones, and up to half of the mixture may be code
    without harm to tasks of language. So the records are repeated up to `most_epochs` times; what is still lacking is
    filled with records of the source `code` (meta["source"]), up to `code_share` of the whole. What is told: the loss
    that the law predicts for this and for as many new tokens. The law and both findings are about pre-training.

    Options:
        tokens: the budget; words are counted, and single characters where a script has no spaces
        parameters: of the model that is to be trained
        most_epochs: how often a record may come up
        code: the source that is code; without it nothing is filled
        code_share: largest share of the tokens that may be code, at most a half
        seed: seed of the order
    """
    is_code = [bool(code) and str(record.meta.get("source", "")) == code for record in records]
    if code and not any(is_code):
        raise KilterError(f"No record's meta has the source '{code}'; name the source that is code, or none.")
    sizes = tokenise([said(record) for record in records]).lengths.tolist()
    chosen: list[tuple[int, int]]
    more: list[tuple[int, int]]
    text = [i for i, flag in enumerate(is_code) if not flag]
    chosen, used = _repeated(text, sizes, tokens, most_epochs, seed)
    room = min(tokens - used, int(used * code_share / (1 - code_share)))
    more, filled = _repeated([i for i, flag in enumerate(is_code) if flag], sizes, room, most_epochs, seed)
    taken = [*chosen, *more]
    unique = sum(sizes[i] for i in {i for i, _ in taken})
    law = Law()
    total = used + filled
    if not total:
        raise KilterError("The records hold no tokens; give others.")
    tell(
        [
            f"{total:,} of {tokens:,} tokens, {unique:,} of them different ({total / unique:.2f} epochs); "
            f"predicted loss {law.loss(parameters, total, unique):.4f}, of as many new ones "
            f"{law.loss(parameters, total):.4f}."
        ]
    )
    found = [told(records[i], _source(records[i]), "data-constrained", seed, repeat) for i, repeat in taken]
    random.Random(f"data-constrained {seed}").shuffle(found)
    return found


def _source(record: Record) -> str:
    return str(record.meta.get("source", "text"))


def _repeated(
    indices: list[int], sizes: list[int], room: int, most_epochs: float, seed: int
) -> tuple[list[tuple[int, int]], int]:
    """Return (record, repetition) for as many as fit into `room` tokens, epoch by epoch, and their tokens."""
    room = min(room, int(most_epochs * sum(sizes[i] for i in indices)))
    chosen: list[tuple[int, int]] = []
    used = epoch = 0
    while used < room:
        order = list(indices)
        random.Random(f"data-constrained {seed} {epoch}").shuffle(order)
        before = used
        for i in order:
            if used + sizes[i] <= room:
                chosen.append((i, epoch))
                used += sizes[i]
        if used == before:
            break
        epoch += 1
    return chosen, used
