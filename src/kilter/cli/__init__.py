"""The command `kilter`: one small module a group of verbs. Nothing heavy is imported before a verb needs it."""

from kilter.cli.entry import main

__all__ = ["main"]
