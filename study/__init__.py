"""The study as a list of stages, and that list as a graph of Slurm jobs."""
