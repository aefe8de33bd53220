"""Alignment data on disk, in the shapes people already have: found out, read, written back, converted."""

from kilter.formats.reading import Reading, read
from kilter.formats.shape import Shape
from kilter.formats.table import SHAPES, detect
from kilter.formats.writing import Conversion, convert, write

__all__ = ["SHAPES", "Conversion", "Reading", "Shape", "convert", "detect", "read", "write"]
