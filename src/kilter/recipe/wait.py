"""From async to plain, for whoever calls methods without knowing that they are written as `async` code."""

from kilter.models.drive import wait

__all__ = ["wait"]
