"""The study as a list of stages, that list as a graph of Slurm jobs, and the search for options.

In: what is asked for. Out: commands, submitted jobs, their state. Open `stages.py` first: it holds
the list.
"""
