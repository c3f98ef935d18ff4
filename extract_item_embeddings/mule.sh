#!/bin/bash
#SBATCH --job-name=mule
#SBATCH --time=04:00:00
#SBATCH --mem=8G
#SBATCH --cpus-per-task=8
#SBATCH --output=logs/%x-%A_%a.out

# sbatch extract_item_embeddings/mule.sh --root R --audio DIR      takes what the module takes; no GPU.
# sbatch --array=0-9 extract_item_embeddings/mule.sh --root R --audio DIR --shards 10      a tenth a job.
# When all are finished, the same with --join and without --array writes the embedding.
# Make logs/ before the first. Inside a job $0 is a spool copy: the project is where sbatch was called.
cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")/..}" || exit 2
if [ -f cluster.env ]; then . ./cluster.env; fi
if [ -f .venv-mule/bin/activate ]; then . .venv-mule/bin/activate; fi

python -m extract_item_embeddings.mule "$@"
