"""`kilter/teacher`: a model without weights that knows the bundled world and answers what data methods ask.

It stands in for a strong model where there is none: offline, at once, the same every time. Prompts of the world it
answers as the truth has it; a method's request it answers by the kind that the method's prompt declares
(kilter.prompts) and by the variables in it, not by the wording, so that a user's own wording changes nothing. What it
does not know is anything outside the world.
"""

from kilter.models.teacher import (
    answering,
    coding,
    dialogues,
    distilling,
    grading,
    judging,
    roles,
    speaking,
    writing,
)
from kilter.models.teacher.kinds import KINDS, Options, Request, kind
from kilter.models.teacher.model import NAME, Teacher, is_teacher
from kilter.models.teacher.truth import Known, known

__all__ = [
    "KINDS",
    "NAME",
    "Known",
    "Options",
    "Request",
    "Teacher",
    "answering",
    "coding",
    "dialogues",
    "distilling",
    "grading",
    "is_teacher",
    "judging",
    "kind",
    "known",
    "roles",
    "speaking",
    "writing",
]
