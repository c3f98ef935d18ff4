"""Ours beside plain versions of the same mathematics, in one run: ratios and peak memory.

In: sizes. Out: a printed table; nothing is kept. Open `bench_training.py` first; `plain.py` holds
what it compares with, `full_size.py` data of the study's size.
"""
