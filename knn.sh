#!/bin/bash
#SBATCH --job-name=knn
#SBATCH --time=4:00:00
#SBATCH --mem=20G
#SBATCH --cpus-per-task=4
#SBATCH --output=logs/%x-%A_%a.out

# sbatch knn.sh --embedding mert --seed 1      takes what knn.py takes; make logs/ before the first.
# Inside a job $0 is a spool copy, so the project is where sbatch was called.
cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")}" || exit 2
if [ -f cluster.env ]; then . ./cluster.env; fi
if [ -f .venv/bin/activate ]; then . .venv/bin/activate; fi

python knn.py "$@"
