#!/bin/bash
#SBATCH --job-name=encodecmae
#SBATCH --time=24:00:00
#SBATCH --mem=12G
#SBATCH --cpus-per-task=8
#SBATCH --gres=gpu:1
#SBATCH --output=logs/%x-%A_%a.out

# sbatch extract_item_embeddings/encodecmae.sh --root R --audio DIR      takes what the module takes; one GPU.
# sbatch --array=0-9 extract_item_embeddings/encodecmae.sh --root R --audio DIR --shards 10      a tenth a job.
# When all are finished, the same with --join and without --array writes the embedding.
# Make logs/ before the first. Inside a job $0 is a spool copy: the project is where sbatch was called.
cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")/..}" || exit 2
if [ -f cluster.env ]; then . ./cluster.env; fi
if [ -f .venv/bin/activate ]; then . .venv/bin/activate; fi

python -m extract_item_embeddings.encodecmae "$@"
