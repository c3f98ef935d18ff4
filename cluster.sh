# What every batch file shares; sourced by NAME.sh, which then calls `job python ...`.
#
# `./train.sh --embedding mert` submits itself with the settings of cluster.env, also from a shell
# that salloc or srun has opened. As a batch job, or a step of srun's, Python runs until it ends or
# Slurm warns: 120 s before the time limit or a preemption. Then Python stops (what is done is kept,
# exit code 138) and the job, or this one task of an array, is put back into the queue, at most
# MAX_REQUEUES times; it goes on where it stopped.

# Whether this file is what Slurm runs: sbatch's copy, or what srun has started. A shell inside an
# allocation has SLURM_JOB_ID too, and is told here how to submit as one outside.
runs_here=""
if [ -n "${SLURM_JOB_ID:-}" ]; then
    case ${0##*/}:${SLURM_TASK_PID:-} in slurm_script:* | *:$$) runs_here=1 ;; esac
fi

child="" stop="" signalled=""
pass_on() { # SIGNAL, to Python when it runs
    signalled=1 stop=$1
    if [ -n "$child" ]; then kill "-$1" "$child" 2>/dev/null; fi
}
if [ -n "$runs_here" ]; then
    trap 'pass_on USR1' USR1 # first of all: by default it ends the script
    trap 'pass_on TERM' TERM
fi

export PYTHONUNBUFFERED=1 # logs that are read while a job runs
arguments=("$@")
MAX_REQUEUES=20 GPU_FLAGS="" CPU_FLAGS=""
if [ -f cluster.env ]; then . ./cluster.env; fi

# job COMMAND...: outside a job submit the batch file, inside one run the command.
job() {
    if [ -n "$runs_here" ]; then
        run_and_requeue "$@"
    elif command -v sbatch >/dev/null; then
        submit "$0" -- ${arguments[@]+"${arguments[@]}"}
    else
        echo "${0##*/}: no Slurm on this machine (no sbatch); run it here:$(printf ' %q' "$@")" >&2
        exit 2
    fi
}

# submit FILE [OPTION OF SBATCH...] -- [ARGUMENT...]: sbatch, with the site's settings.
submit() {
    local file=$1 options=()
    shift
    while [ "$1" != -- ]; do options+=("$1"); shift; done
    shift
    mkdir -p logs || return 1
    leave_allocation
    settings "$file" "${1:-}" ${options[@]+"${options[@]}"}
    if [[ " ${site[*]-} " != *" --mem-per-cpu="* ]]; then
        sbatch ${site[@]+"${site[@]}"} ${options[@]+"${options[@]}"} "$file" "$@"
    else # which sbatch does not take beside the file's --mem
        local copy code
        copy=$(mktemp) || return 1
        sed '/^#SBATCH --mem=/d' "$file" >"$copy"
        sbatch "${site[@]}" ${options[@]+"${options[@]}"} "$copy" "$@"
        code=$?
        rm -f "$copy"
        return "$code"
    fi
}

# settings FILE ARGUMENT [OPTION OF SBATCH...]: set `site` to the options that cluster.env asks for.
# NAME is the batch file's, as in TIME_train_bert; of stage.sh also that of the script it runs.
settings() {
    local file=$1 name script=$2 setting variable value options=" ${*:3} "
    name=${file##*/} name=${name%.sh} script=${script##*/} script=${script%.py}
    [ "$name" = stage ] || script=$name
    site=()
    if grep -q '^#SBATCH --gres=gpu' "$file" && [[ $options != *" --gres=none "* ]]; then
        # shellcheck disable=SC2206  # flags are several words
        site=($GPU_FLAGS)
    else
        # shellcheck disable=SC2206
        site=($CPU_FLAGS)
    fi
    for setting in TIME MEM MEM_PER_CPU CPUS PARTITION ACCOUNT QOS MAIL; do
        value=""
        for variable in "$setting" "${setting}_${name//[^A-Za-z0-9]/_}" \
            "${setting}_${script//[^A-Za-z0-9]/_}"; do
            value=${!variable:-$value}
        done
        [ -n "$value" ] || continue
        # What a share of a node, or a second try, asks for goes before.
        case $setting in
            MEM | MEM_PER_CPU) [[ $options != *" --mem="* ]] || continue ;;
        esac
        case $setting in
            CPUS) site+=("--cpus-per-task=$value") ;;
            MAIL) site+=("--mail-user=$value" "--mail-type=FAIL,END") ;;
            *) setting=${setting//_/-} site+=("--${setting,,}=$value") ;;
        esac
    done
}

# What an allocation has set is about that job; of the one that is submitted it would be wrong.
leave_allocation() {
    local name
    [ -n "${SLURM_JOB_ID:-}" ] || return 0
    echo "== submitted as a job of its own, not inside allocation $SLURM_JOB_ID" >&2
    for name in ${!SLURM_@} ${!SLURMD_@} ${!SRUN_@} CUDA_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES; do
        case $name in SLURM_CONF | SLURM_CLUSTERS | SLURM_CLUSTER_NAME) ;; *) unset "$name" ;; esac
    done
}

run_and_requeue() {
    local code
    if [ -f .venv/bin/activate ]; then . .venv/bin/activate; fi
    if [ "${SLURM_NTASKS:-1}" -gt 1 ]; then # processes that train together, see parallel.py
        export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}
        set -- srun --wait=30 "$@" # of which none goes on for long when another has ended
    fi
    "$@" &
    child=$!
    [ -z "$stop" ] || kill "-$stop" "$child" # it came before there was a child
    while signalled=""; do # bash runs a trap only while it waits, and the signal ends the wait
        wait "$child"
        code=$?
        [ -n "$signalled" ] || break
    done
    case $code:$stop in 138:* | 143:USR1) requeue ;; esac # srun can end the last of them by TERM
    if [ "$code" != 0 ]; then echo "== ${SLURM_JOB_NAME:-job}: exit code $code" >&2; fi
    exit "$code"
}

# Put this job, or this task of its array, back into the queue; that ends this script.
requeue() {
    local id=$SLURM_JOB_ID restarts=${SLURM_RESTART_COUNT:-0}
    if [ -n "${SLURM_ARRAY_JOB_ID:-}" ]; then id=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID; fi
    if [ "$restarts" -ge "$MAX_REQUEUES" ]; then
        echo "== requeued $restarts times already (MAX_REQUEUES=$MAX_REQUEUES): not again; submit" \
            "it again if it still gets on" >&2
        return
    fi
    trap '' TERM # it comes at once, to scontrol too
    if scontrol requeue "$id"; then
        echo "== requeued $id (restart $((restarts + 1)) of at most $MAX_REQUEUES)" >&2
        sleep 60
    fi
}
