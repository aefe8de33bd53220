"""Programs that a model wrote, run where they can do no harm: in bubblewrap, or behind Linux namespaces of our own."""

from kilter.sandbox.box import Limits, Outcome, check, run, tried

__all__ = ["Limits", "Outcome", "check", "run", "tried"]
