#!/bin/bash
#SBATCH --job-name=stage
#SBATCH --time=8:00:00
#SBATCH --mem=16G
#SBATCH --cpus-per-task=4
#SBATCH --output=logs/%x-%A_%a.out
#SBATCH --requeue --open-mode=append --signal=B:USR1@120

# Stages without a file of their own, which need no GPU: data, controls, table.
# ./stage.sh 1_train_test_split.py --root R   submits itself
[ -f cluster.sh ] || cd "${SLURM_SUBMIT_DIR:-.}" || exit 2
. ./cluster.sh || { echo "$0: call it from the project's folder" >&2; exit 2; }

[ $# -gt 0 ] || { echo "stage.sh: which script? as ./stage.sh table.py --root R" >&2; exit 2; }
job python "$@"
