"""Benchmarks and validation: how fast, against whom, and how one knows that it is right. The ``bench`` verb."""
