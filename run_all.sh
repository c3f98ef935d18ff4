#!/usr/bin/env bash
# The whole study with one command: set-up, data, every stage, the table.
#
#   bash run_all.sh                                   # on sample data it makes, in sample/
#   bash run_all.sh --root R --log FILE --audio DIR   # on Music4All
#       [--embeddings mfcc,musicnn]    backbones to extract and compare
#       [--recommenders knn,shallow,bert4rec]
#       [--seeds 1,2,3]                one run for each
#       [--shuffled knn,shallow]       recommenders with a shuffled control for each embedding, or none
#       [--config FILE]                yaml of options for train.py and train_bert.py
#
# What is finished is not done again, so after an interruption run the same command.
set -euo pipefail

root=sample log="" audio="" config=""
embeddings=mfcc,musicnn recommenders=knn,shallow,bert4rec seeds=1 shuffled=knn,shallow
usage() { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}"; }
refuse() { echo "run_all.sh: $1; see bash run_all.sh --help" >&2; exit 2; }
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) usage; exit 0 ;;
        --root | --log | --audio | --embeddings | --recommenders | --seeds | --config | --shuffled)
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

say "without an embedding: popular, random lists, EASE"
python baselines.py --root "$root" --seeds "$seeds"
recommend() { # RECOMMENDER EMBEDDING MORE...
    local recommender=$1 name=$2; shift 2
    say "$recommender on $name $*"
    set -- --root "$root" --embedding "$name" --seeds "$seeds" "$@"
    case $recommender in
        knn) python knn.py "$@" ;;
        shallow) python train.py "$@" "${options[@]}" ;;
        bert4rec) python train_bert.py "$@" "${options[@]}" ;;
    esac
}
for recommender in ${recommenders//,/ }; do
    for name in ${embeddings//,/ } noise; do
        [ "$recommender $name" = "knn random" ] || recommend "$recommender" "$name" # KNN learns nothing
        case ",$shuffled," in *",$recommender,"*) ;; *) continue ;; esac
        case $name in random | noise) ;; *) recommend "$recommender" "$name" --shuffle ;; esac
    done
done

say "table"
python table.py --root "$root"
