"""Stages 0 and 1 at any size: a listening log becomes plays, and plays the parts of a split.

In: a tab-separated log, plain or packed. Out: data/plays.pqt, data/{train,val,test}.pqt. Open
`plays.py` first (stage 0), then `split_plays.py` (stage 1); `audit.py` audits one
against its plays (--check), beside what every reader checks, which is in core/split_parts.py.
"""
