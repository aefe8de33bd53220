"""Alignment data on disk, in the shapes people already have: found out, read, written back, converted."""

from kilter.formats.reading import Reading, Records, read, rejects_beside
from kilter.formats.shape import Shape
from kilter.formats.streaming import Stream
from kilter.formats.table import SHAPES, detect
from kilter.formats.writing import Conversion, convert, write

__all__ = [
    "SHAPES",
    "Conversion",
    "Reading",
    "Records",
    "Shape",
    "Stream",
    "convert",
    "detect",
    "read",
    "rejects_beside",
    "write",
]
