#!/usr/bin/env bash
# Stop what start.sh has started: cancel the jobs, then end each daemon by its pid file.
#
#   tests/study/slurm/stop.sh FOLDER
folder=$1
export SLURM_CONF=$folder/slurm.conf
timeout 10 scancel --user="$(id -un)" 2>/dev/null
for _ in $(seq 50); do
    [ -n "$(timeout 5 squeue -h 2>/dev/null)" ] || break
    sleep 0.1
done

end() { # PID_FILE...: TERM to all, KILL to those that are still there after 10 s
    local file pid left
    for file in "$@"; do [ ! -s "$file" ] || kill "$(cat "$file")" 2>/dev/null; done
    for file in "$@"; do
        [ -s "$file" ] || continue
        pid=$(cat "$file")
        for left in $(seq 100 -1 0); do
            kill -0 "$pid" 2>/dev/null || break
            [ "$left" -gt 0 ] || kill -9 "$pid"
            sleep 0.1
        done
    done
}
end "$folder"/pid/slurmctld "$folder"/pid/slurmd.*
end "$folder"/pid/munged # last: the others authenticate by it
