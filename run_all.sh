#!/usr/bin/env bash
# The whole study with one command: set-up, data, every stage, the table, the report.
#
#   bash run_all.sh                                   # on sample data it makes, in sample/
#   bash run_all.sh --onion [small]                   # on open data, from nothing: docs/open-data.md
#       [--published]                  the extended study's split (100 MB) for the log (2.2 GB)
#       [--tables maest,jukebox]       tables of vectors; get_data.py --list names them
#       [--mirror URL_OR_FOLDER] [--sources FILE] [--limit-rate 2MB]
#   bash run_all.sh --root R --log FILE --audio DIR   # on Music4All
#       [--pattern '**/*.mp3']         the files in DIR that are meant
#       [--embeddings mfcc,musicnn]    backbones to extract and compare
#       [--recommenders A,B | all]     which: the last line of this help names them
#       [--seeds 1,2,3]                one run for each
#       [--tracks frozen,trained]      vectors of tracks in the networks: frozen, trained, or both
#       [--shuffled A,B]               recommenders with a shuffled control of each embedding, or none
#       [--as-published]               all that the study's code did, mistakes included; README
#       [--config FILE]                yaml of options for what learns
#       [--weights DIR]                folders NAME with weights that are not the hub's, as of mule
#       [--at-once N]                  stages that run at a time; by itself as many as there is room for
#   bash run_all.sh --slurm ...                       # the same as a graph of Slurm jobs, docs/slurm.md
#       [--shards 32] [--at-once 8]    tasks an extraction is split into, and of any that run at a time
#       [--gpus N] [--at-most N]       trainings that share a node; jobs in the queue at a time
#       [--fetch]                      weights first, on this machine; jobs then ask no hub
#       [--dry-run | --cancel]         say what would be submitted; cancel this study's jobs
#       [--overwrite]                  make again what other inputs or options have made
#
# What is finished is not done again, so after an interruption run the same command.
set -euo pipefail

case " $* " in
    *" --help "* | *" -h "*)
        sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}"
        cd "$(dirname "${BASH_SOURCE[0]}")"
        "${PYTHON:-python3}" -c "from core.registry import RECOMMENDERS as known
print('recommenders:', ', '.join(known))"
        exit 0 ;;
esac
from=$PWD here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here"
. ./setup_env.sh
setup_env
cd "$from"
exec python "$here/run_study.py" "$@"
