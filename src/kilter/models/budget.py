"""What may be spent on asking: tokens, or money at a price that the user names."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kilter.errors import KilterError
from kilter.models.protocol import Usage

_TOKENS = re.compile(r"([\d_.,]+)\s*([kKmM]?)\s*(?:tokens?|t)\b\.?")


class Enough(KilterError):
    """Nothing more may be asked. What is under way is waited for, for it is paid."""


@dataclass(frozen=True, slots=True)
class Price:
    """Money for a million tokens read and a million tokens written."""

    prompt: float
    completion: float

    def of(self, usage: Usage) -> float:
        """Return what `usage` costs."""
        return (usage.prompt_tokens * self.prompt + usage.completion_tokens * self.completion) / 1e6


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that may be spent: `tokens`, or `money` at `price`."""

    tokens: float | None = None
    money: float | None = None
    price: Price | None = None

    def check(self, usage: Usage) -> None:
        """Raise Enough once `usage` has used the budget up."""
        if self.tokens is not None and usage.tokens >= self.tokens:
            raise Enough(
                f"The budget of {self.tokens:,.0f} tokens is used up ({usage.tokens:,}); what was answered is kept: "
                "give the same command with a larger --budget and it goes on."
            )
        if self.money is not None and self.price is not None and self.price.of(usage) >= self.money:
            raise Enough(
                f"The budget of {self.money:,.2f} is used up ({self.price.of(usage):,.2f}); what was answered is kept: "
                "give the same command with a larger --budget and it goes on."
            )


def parse_price(text: str | None) -> Price | None:
    """Return the price that `PROMPT,COMPLETION` tells, in money a million tokens; None of None."""
    if text is None:
        return None
    try:
        prompt, _, completion = text.partition(",")
        price = Price(float(prompt), float(completion or prompt))
    except ValueError:
        price = Price(-1, -1)
    if min(price.prompt, price.completion) < 0:
        raise KilterError(
            f"'--price {text}' is no price; write what a million tokens cost, read and written, such as 0.15,0.60."
        )
    return price


def parse_budget(text: str | None, price: Price | None) -> Budget | None:
    """Return the budget that `2M tokens`, `500k tokens` or (with a price) `3.50` tells; None of None."""
    if text is None:
        return None
    tokens = _TOKENS.fullmatch(text.strip())
    try:
        if tokens:
            count = float(tokens[1].replace(",", "").replace("_", ""))
            return Budget(tokens=count * {"": 1, "k": 1e3, "m": 1e6}[tokens[2].lower()])
        money = float(text)
    except ValueError:
        raise KilterError(
            f"'--budget {text}' is no budget; write 2M tokens, or with --price an amount such as 3.50."
        ) from None
    if price is None:
        raise KilterError(
            f"'--budget {text}' is an amount of money, which takes a --price; or write it in tokens, such as 2M tokens."
        )
    return Budget(money=money, price=price)
