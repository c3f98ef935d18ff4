"""Vectors and histories become lists, and lists become a run.

In: the split (`interactions.py`), an embedding (`vectors.py`). Out: lists without heard tracks
(`lists.py`) in the folder of a run (`runs.py`). Open `lists.py` first: all recommenders end there.
"""
