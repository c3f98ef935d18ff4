"""Lists become numbers, and numbers tables.

In: lists and held-out tracks. Out: metrics of each user (`measures.py`), rows averaged over seeds
(`results.py`), tests of differences (`comparisons.py`), sealed tables (`tables.py`). Open
`measures.py` first.
"""
