"""Stages 0 and 1 at any size: the listening log to plays, plays to the parts of a split."""
