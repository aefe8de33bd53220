"""Benchmarks with known answers as data: YAML files in the form of the Language Model Evaluation Harness."""
