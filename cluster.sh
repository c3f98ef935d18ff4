# What every batch file shares; sourced by NAME.sh, which then calls `job python ...`.
#
# Outside a job, `./train.sh --embedding mert` submits itself with the settings of cluster.env.
# Inside one, Python runs until it ends or Slurm warns: 120 s before the time limit or a preemption.
# Then Python stops (what is done is kept, exit code 138) and the job, or this one task of an array,
# is put back into the queue, at most MAX_REQUEUES times; it goes on where it stopped.

child="" stop="" signalled=""
pass_on() { # SIGNAL, to Python when it runs
    signalled=1 stop=$1
    if [ -n "$child" ]; then kill "-$1" "$child" 2>/dev/null; fi
}
if [ -n "${SLURM_JOB_ID:-}" ]; then
    trap 'pass_on USR1' USR1 # first of all: by default it ends the script
    trap 'pass_on TERM' TERM
fi

export PYTHONUNBUFFERED=1 # logs that are read while a job runs
arguments=("$@")
MAX_REQUEUES=20 GPU_FLAGS="" CPU_FLAGS=""
if [ -f cluster.env ]; then . ./cluster.env; fi

# job COMMAND...: outside a job submit the batch file, inside one run the command.
job() {
    if [ -n "${SLURM_JOB_ID:-}" ]; then
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
    local file=$1 options=() flags=$CPU_FLAGS
    shift
    while [ "$1" != -- ]; do options+=("$1"); shift; done
    shift
    if grep -q '^#SBATCH --gres=gpu' "$file" && [[ " ${options[*]-} " != *" --gres=none "* ]]; then
        flags=$GPU_FLAGS
    fi
    mkdir -p logs || return 1
    # shellcheck disable=SC2086  # flags are several words
    sbatch $flags ${options[@]+"${options[@]}"} "$file" "$@"
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
