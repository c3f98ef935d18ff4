"""Networks whose track vectors are of length 1, for users who are the mean of what they heard.

In: histories (`histories.py`) or tracks of two views (`contrastive.py`). Out: a loss to train by,
and vectors to rank by. Open `elsa.py` first: `hybrid.py` is ELSA over computed vectors, and
`bimodal.py` is ranked in the same way. `sampled_softmax.py` is a loss for large catalogues;
`compiled_hinge.py` and `gathered_hinge.py` are the Shallow Net's inner loops on a CPU and a GPU.
"""
