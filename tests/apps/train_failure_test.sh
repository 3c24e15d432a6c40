#!/usr/bin/env bash
# A rank that dies in the middle of a run ends the whole job within seconds, with a non-zero code.
set -euo pipefail
train=$1
# shellcheck source=tests/apps/mpi_env.sh
. "$(dirname "$0")/mpi_env.sh"
for signal in KILL SEGV; do
    code=0
    mpirun -np 4 "$train" --data synthetic --steps 100000 --quiet >"$scratch/out" 2>"$scratch/err" &
    job=$!
    victim=
    for _ in $(seq 100); do
        victim=$(pgrep -P "$job" -f "$train" | tail -1) && [ -n "$victim" ] && break
        sleep 0.1
    done
    sleep 3
    kill -"$signal" "$victim"
    begin=$SECONDS
    wait "$job" || code=$?
    if [ "$code" = 0 ] || [ $((SECONDS - begin)) -gt 20 ]; then
        fail "a rank ended by SIG$signal: exit code $code after $((SECONDS - begin)) s"
    else
        printf 'ok a rank ended by SIG%s ends the job with code %s\n' "$signal" "$code"
    fi
done

# The launcher passes a person's Ctrl-C on; the job says why it ended.
mpirun -np 2 "$train" --data synthetic --steps 100000 --quiet >"$scratch/out" 2>"$scratch/err" &
job=$!
sleep 3
kill -INT "$job"
code=0
wait "$job" || code=$?
if [ "$code" = 0 ]; then
    fail 'an interrupted job succeeds'
fi
expect "$code" 'ended by a signal' 'an interrupted job says so'

run 120 mpirun -np 2 "$train" --data synthetic --schedule 1f1b --steps 500 --lr 1e18 --clip 0 \
    --warmup 0 --optimizer sgd --quiet
expect 1 'not finite at step' 'a diverging run says so'
finish
