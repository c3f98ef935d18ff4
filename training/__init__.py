"""The loop that networks share: epochs, early stop, checkpoints, resume, several processes.

In: a network with `loss(batch)` and its batches. Out: its best weights, and what was logged. Open
`recipe.py` first (what a new recommender calls), then `loop.py`; lists of what learns are made in
`device_lists.py`.
"""
