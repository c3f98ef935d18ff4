"""What make_sample.py is made of: clips of eight styles, and listeners with tastes for them.

In: a seed and sizes. Out: clips and a listening log. Open `synthesis.py` first.
"""
