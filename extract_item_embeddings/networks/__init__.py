"""Networks that are written here, each equal to its authors' code on the same weights.

In: a published checkpoint and waves or tokens. Out: hidden layers. Open `conformer.py` first.
"""
