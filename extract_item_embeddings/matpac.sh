#!/bin/bash
#SBATCH --job-name=matpac
#SBATCH --time=24:00:00
#SBATCH --mem=12G
#SBATCH --cpus-per-task=8
#SBATCH --gres=gpu:1
#SBATCH --output=logs/%x-%A_%a.out
#SBATCH --requeue --open-mode=append --signal=B:USR1@120

# extract_item_embeddings/matpac.sh --root R --audio DIR   submits itself
# sbatch --array=0-31%8 the same --shards 32: a shard a task; then once the same --shards 32 --join
[ -f cluster.sh ] || cd "${SLURM_SUBMIT_DIR:-.}" || exit 2
. ./cluster.sh || { echo "$0: call it from the project's folder" >&2; exit 2; }

job python -m extract_item_embeddings.matpac "$@"
