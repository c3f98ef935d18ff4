"""The loop that networks share: epochs, early stop, checkpoints, resume, several processes.

In: a network with `loss(batch)` and its batches. Out: its best weights, and what was logged. Open
`loop.py` first.
"""
