"""The ground every room stands on: options, whole-or-nothing files, names, ids and the split.

In: a command line, files under the root. Out: checked options, checked tables, and files that are
whole or not there. Open `options.py` first; the split is read in `splits.py` and checked in
`split_parts.py`; every recommender is listed in `registry.py`.
"""
