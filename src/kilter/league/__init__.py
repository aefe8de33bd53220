"""The league: every method that trains a policy, from the same start, on the same data, judged by the same truth."""

from kilter.league.run import league

__all__ = ["league"]
