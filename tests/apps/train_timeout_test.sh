#!/usr/bin/env bash
# A rank that stops without a word ends the job after --timeout, and the others say what they wait in;
# a rank that dies does at once, and they say so, too.
set -euo pipefail
train=$1
# shellcheck source=tests/apps/mpi_env.sh
. "$(dirname "$0")/mpi_env.sh"

# start ARGUMENT...: four ranks in the background as $job, $victim is one of them; returns when they train.
start() {
    : >"$scratch/out"
    mpirun -np 4 "$train" --data synthetic --steps 1000000 --hidden 16 --ffn 16 "$@" >"$scratch/out" 2>"$scratch/err" &
    job=$!
    for _ in $(seq 600); do
        grep -q 'step [1-9]' "$scratch/out" && break
        sleep 0.1
    done
    victim=$(pgrep -P "$job" -f "$train" | tail -1)
}

end() {
    code=0
    wait "$job" || code=$?
}

# expect_reports RANKS WHY WHAT: at least so many ranks named the op that they wait in.
expect_reports() {
    local count
    count=$(grep -cE "rank [0-3]: $2: .*(waits in|waits for|is in) " "$scratch/err") || true
    if [ "$count" -lt "$1" ]; then
        fail "$3: $count ranks named their ops, expected $1"
    else
        printf 'ok %s\n' "$3"
    fi
}

start --timeout 5
kill -STOP "$victim"
end
expect 1 'waits in (recv|send|the sum) ' 'a stopped rank ends the job'
expect_reports 3 'a step has not ended within 5 s \(--timeout\)' 'the others report the time-out'

start
kill -KILL "$victim"
end
# The launcher may cut some of them off.
expect_reports 1 'the job is being ended' 'the others report where a killed rank left them'

run 120 mpirun -np 2 "$train" --data synthetic --steps 3 --timeout 60 --quiet
expect 0 '' 'a run in time is left alone'
finish
