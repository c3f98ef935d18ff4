#!/usr/bin/env bash
# Start a Slurm on this machine alone, for tests; as root, since its GPUs are device files.
#
#   tests/study/slurm/start.sh FOLDER [NODES] [PROCESSORS] [MEMORY_MB] [GPUS]     # each node's; 2 16 32000 2
#   export SLURM_CONF=FOLDER/slurm.conf
#   tests/study/slurm/stop.sh FOLDER
#
# Needs slurmctld, slurmd, slurm-client and munge of Debian. All it writes is in FOLDER, and it
# listens on free ports of loopback, so several can run. The GPUs are copies of /dev/null.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
here=$(cd "$(dirname "$0")" && pwd)
folder=$1 nodes=${2:-2} processors=${3:-16} memory=${4:-32000} gpus=${5:-2}
host=$(hostname -s) user=$(id -un)

[ ! -e "$folder/slurm.conf" ] || { echo "$folder has been used; choose another" >&2; exit 2; }
mkdir -p "$folder"/{state,pid,log,munge,gpu}
folder=$(cd "$folder" && pwd)
chmod 755 "$folder"

# a run of free ports: for slurmctld and a slurmd on each node
port=$(python3 - "$((nodes + 1))" <<'P'
import random, socket, sys
n = int(sys.argv[1])
while True:
    first = random.randrange(20000, 30000)
    try:
        held = []
        for port in range(first, first + n):
            held.append(socket.socket())
            held[-1].bind(("127.0.0.1", port))
    except OSError:
        continue
    break
print(first)
P
)

lines=""
for n in $(seq "$nodes"); do
    mkdir -p "$folder/spool/node$n"
    lines+="NodeName=node$n NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + n)) CPUs=$processors"
    lines+=" RealMemory=$memory Gres=gpu:fake:$gpus State=UNKNOWN"$'\n'
done
for n in $(seq 0 $((gpus - 1))); do mknod "$folder/gpu/fake$n" c 1 3; done
printf 'AutoDetect=off\nName=gpu Type=fake File=%s\n' "$folder/gpu/fake[0-$((gpus - 1))]" \
    >"$folder/gres.conf"
awk -v dir="$folder" -v host="$host" -v port="$port" -v user="$user" -v nodes="$lines" \
    -v remembered="${REMEMBERED:-600}" -v grace="${GRACE:-20}" \
    '{ gsub(/@DIR@/, dir); gsub(/@HOST@/, host); gsub(/@PORT@/, port); gsub(/@USER@/, user)
       gsub(/@NODES@/, nodes); gsub(/@REMEMBERED@/, remembered); gsub(/@GRACE@/, grace); print }' \
    "$here/slurm.conf.in" >"$folder/slurm.conf"
export SLURM_CONF=$folder/slurm.conf

(umask 077 && head -c 128 /dev/urandom >"$folder/munge/key")
munged --force --num-threads=2 --key-file="$folder/munge/key" --socket="$folder/munge/socket" \
    --pid-file="$folder/pid/munged" --log-file="$folder/log/munged" --seed-file="$folder/munge/seed"
slurmctld -c -f "$SLURM_CONF"
for n in $(seq "$nodes"); do slurmd -N "node$n" -f "$SLURM_CONF"; done

for _ in $(seq 300); do
    [ "$(timeout 5 sinfo -h -p main -t idle -o %D 2>/dev/null)" != "$nodes" ] || exit 0
    sleep 0.1
done
echo "the nodes did not come up within 30 s" >&2
tail -n 15 "$folder"/log/* >&2
"$here/stop.sh" "$folder"
exit 1
