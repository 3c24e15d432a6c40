#!/usr/bin/env bash
# What a run computes: the same as one process, the same bits twice, and under the model clock exactly what
# was predicted; for every schedule, over real ranks.
set -euo pipefail
train=$1
# shellcheck source=tests/apps/mpi_env.sh
. "$(dirname "$0")/mpi_env.sh"
model=(--device host --data synthetic:train=2048,test=200,features=30,classes=5 --hidden 24 --ffn 40
    --micro-batch-size 4)
small=("${model[@]}" --quiet)

value() { # value KEY FILE: the first value of a key in a report
    sed -n "s/^ *\"$1\": \"\\{0,1\\}\\([^\",]*\\)\"\\{0,1\\},\\{0,1\\}\$/\\1/p" "$2" | head -1
}

values() { # values KEY FILE: all values of a key in a report, in order
    sed -n "s/^ *\"$1\": \([^\",]*\),\{0,1\}\$/\1/p" "$2"
}

at_most() { # at_most VALUE LIMIT WHAT
    if awk -v v="$1" -v l="$2" 'BEGIN { exit !(v != "" && v + 0 <= l + 0) }'; then
        printf 'ok %s (%s)\n' "$3" "$1"
    else
        fail "$3: $1 exceeds $2"
    fi
}

# Under sanitizers a few stand for all: the schedules differ in their programs, not in the code that runs them.
cases='gpipe 1
gpipe 4
1f1b 2
1f1b 8
zb1p 4
dualpipe 2
dualpipe 8
dualpipev 1
dualpipev 3
dualpipev 8
interleaved-1f1b 4
interleaved-1f1b:3 2
zb2p 3
zbv 4
v-half 4
v-min 3
chimera 4'
if [ -n "${DPR_TEST_SHORT-}" ]; then
    cases='1f1b 2
zb1p 3
dualpipe 4
dualpipev 3'
fi
while read -r schedule ranks; do
    what="$schedule on $ranks ranks"
    run 120 mpirun -np "$ranks" "$train" "${small[@]}" --schedule "$schedule" --verify \
        --report "$scratch/a.json"
    expect 0 '' "$what agrees with one process"
    at_most "$(value gradient_difference "$scratch/a.json")" 1e-5 "$what: gradients"
    at_most "$(value loss_difference "$scratch/a.json")" 1e-5 "$what: losses"
    held=$(values memory_bytes "$scratch/a.json")
    if [ "$(wc -w <<<"$held")" != "$ranks" ] || [ "$held" != "$(values predicted_memory_bytes "$scratch/a.json")" ]; then
        fail "$what: holds other than the predicted bytes"
    else
        printf 'ok %s: holds the predicted bytes\n' "$what"
    fi
    run 120 mpirun -np "$ranks" "$train" "${small[@]}" --schedule "$schedule" --steps 3 \
        --cost-model F=1e-3,I=1.2e-3,W=0.8e-3,FB=2.5e-3,wire=0.2e-3 --report "$scratch/b.json"
    expect 0 '' "$what under the model clock"
    at_most "$(value timeline_difference "$scratch/b.json")" 1e-9 "$what: timeline"
    if [ "$(value parameters_hash "$scratch/a.json")" != "$(value parameters_hash "$scratch/b.json")" ]; then
        fail "$what: two runs gave different parameters"
    else
        printf 'ok %s: the same bits in two runs\n' "$what"
    fi
done <<<"$cases"

run 120 mpirun -np 3 "$train" "${small[@]}" --schedule auto --auto-budget 0.2 --verify
expect 0 '' 'a program built for the calibrated costs agrees with one process'

run 120 mpirun -np 4 "$train" "${small[@]}" --steps 3 --chaos 5 --report "$scratch/c.json"
run 120 mpirun -np 4 "$train" "${small[@]}" --steps 3 --clock core --report "$scratch/d.json"
if [ -z "$(value parameters_hash "$scratch/c.json")" ] ||
    [ "$(value parameters_hash "$scratch/c.json")" != "$(value parameters_hash "$scratch/d.json")" ]; then
    fail 'chaos changed the result'
else
    printf 'ok chaos does not change a bit over MPI\n'
fi

cat >"$scratch/lowered.csv" <<'CSV'
0UNSHARD,0F0,0F1,0SEND_F1,0SEND_F0,0RECV_B1,0RECV_B0,0B0,0B1,0RESHARD,0REDUCE_GRAD
1UNSHARD,1RECV_F1,1RECV_F0,1F0,1B0,1F1,1I1,1SEND_B1,1SEND_B0,1W1,1RESHARD
CSV
run 60 mpirun -np 2 "$train" "${model[@]}" --schedule-file "$scratch/lowered.csv" --verify
expect 0 'passed over 5 UNSHARD, RESHARD and REDUCE_GRAD cells' 'a lowered program runs and is verified'
expect_once 'passed over' 'what is passed over is said once'

run 60 mpirun -np 4 "$train" "${small[@]}" --steps 2
expect 0 '' 'a quiet run'
if [ -s "$scratch/out" ]; then
    fail 'a quiet run printed something'
fi
finish
