#!/bin/bash
#SBATCH --job-name=hybrid
#SBATCH --time=12:00:00
#SBATCH --mem=20G
#SBATCH --cpus-per-task=4
#SBATCH --gres=gpu:1
#SBATCH --output=logs/%x-%A_%a.out
#SBATCH --requeue --open-mode=append --signal=B:USR1@120

# ./train_hybrid.sh --root R --embedding mert   submits itself; or sbatch --time 8:00:00 ...
# sbatch --array=0-5 train_hybrid.sh --root R --embedding mfcc,mert --seeds 1,2,3   a run a task
[ -f cluster.sh ] || cd "${SLURM_SUBMIT_DIR:-.}" || exit 2
. ./cluster.sh || { echo "$0: call it from the project's folder" >&2; exit 2; }

job python train_hybrid.py "$@"
