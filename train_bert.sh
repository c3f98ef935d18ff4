#!/bin/bash
#SBATCH --job-name=bert4rec
#SBATCH --time=12:00:00
#SBATCH --mem=20G
#SBATCH --cpus-per-task=4
#SBATCH --gres=gpu:1
#SBATCH --output=logs/%x-%A_%a.out

# sbatch train_bert.sh --embedding mert --seed 1      takes what train_bert.py takes; make logs/ before the first.
# Inside a job $0 is a spool copy, so the project is where sbatch was called.
cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")}" || exit 2
if [ -f cluster.env ]; then . ./cluster.env; fi
if [ -f .venv/bin/activate ]; then . .venv/bin/activate; fi

python train_bert.py "$@"
