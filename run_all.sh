#!/usr/bin/env bash
# The whole study with one command: set-up, data, every stage, the table, the report.
#
#   bash run_all.sh                                   # on sample data it makes, in sample/
#   bash run_all.sh --root R --log FILE --audio DIR   # on Music4All
#       [--embeddings mfcc,musicnn]    backbones to extract and compare
#       [--recommenders knn,shallow,bert4rec]
#       [--seeds 1,2,3]                one run for each
#       [--config FILE]                yaml of options for train.py and train_bert.py
#
# What is finished is not done again, so after an interruption run the same command.
set -euo pipefail

root=sample log="" audio="" config=""
embeddings=mfcc,musicnn recommenders=knn,shallow,bert4rec seeds=1
usage() { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}"; }
refuse() { echo "run_all.sh: $1; see bash run_all.sh --help" >&2; exit 2; }
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) usage; exit 0 ;;
        --root | --log | --audio | --embeddings | --recommenders | --seeds | --config)
            [ $# -ge 2 ] || refuse "$1 needs a value"
            declare "${1#--}=$2"; shift 2 ;;
        *) refuse "unknown flag '$1'" ;;
    esac
done
for name in ${recommenders//,/ }; do
    case $name in knn | shallow | bert4rec) ;; *) refuse "unknown recommender '$name'" ;; esac
done
for name in ${embeddings//,/ }; do
    case $name in random | noise) continue ;; esac
    [ -e "$(dirname "${BASH_SOURCE[0]}")/extract_item_embeddings/$name.py" ] ||
        [ -e "$root/embeddings/$name.npy" ] || refuse "unknown embedding '$name'"
done
absolute() { case $1 in /* | "") echo "$1" ;; *) echo "$PWD/$1" ;; esac; }
root=$(absolute "$root") log=$(absolute "$log") audio=$(absolute "$audio") config=$(absolute "$config")

cd "$(dirname "${BASH_SOURCE[0]}")"
. ./setup_env.sh
setup_env
say() { printf '\n== %s\n' "$*"; }

if [ -z "$log$audio" ]; then
    say "sample data"
    python make_sample.py --root "$root"
    log=$root/userid_trackid_timestamp.tsv audio=$root/audio config=${config:-sample.yaml}
elif [ -z "$log" ] || [ -z "$audio" ]; then
    refuse "--log and --audio go together"
fi
options=(); [ -z "$config" ] || options=(--config "$config")

say "stage 0: plays";  python 0_get_plays_pqt.py --root "$root" --log "$log" --audio "$audio"
say "stage 1: split";  python 1_train_test_split.py --root "$root"
for name in ${embeddings//,/ }; do
    if [ -e "extract_item_embeddings/$name.py" ]; then
        say "embeddings: $name"
        python -m "extract_item_embeddings.$name" --root "$root" --audio "$audio"
    fi
done

say "controls: popular, random lists"
python baselines.py --root "$root" --seeds "$seeds"
for recommender in ${recommenders//,/ }; do
    for name in ${embeddings//,/ } noise; do
        [ "$recommender $name" != "knn random" ] || continue # KNN learns nothing
        say "$recommender on $name"
        case $recommender in
            knn) python knn.py --root "$root" --embedding "$name" --seeds "$seeds" ;;
            shallow) python train.py --root "$root" --embedding "$name" --seeds "$seeds" "${options[@]}" ;;
            bert4rec) python train_bert.py --root "$root" --embedding "$name" --seeds "$seeds" "${options[@]}" ;;
        esac
    done
done

say "table"
python table.py --root "$root"
say "report"
python report.py --root "$root" --audio "$audio"
