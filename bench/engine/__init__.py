"""Kilter's engine beside TRL and transformers' `generate`: same weights, data, precision and machine, by turns.

`make bench`, or `python -m bench.engine --help`.
"""
