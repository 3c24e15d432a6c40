#!/usr/bin/env bash
# throughput, scaling, search, sensitivity and simulate's perturbations of dualpipe_plan from the
# outside: numbers, formats, exit codes, messages. Usage: plan_b_tests.sh DUALPIPE_PLAN
set -u
plan=$(realpath "$1")
golden=$(dirname "$(realpath "$0")")/../golden/dualpipe_4ranks_8mb.csv
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1
failures=0

fail() {
    printf 'FAILED: %s\n' "$1" >&2
    failures=$((failures + 1))
}

# expect CODE ARGUMENTS...: runs the program; output and errors go to out and err
expect() {
    local code=$1
    shift
    "$plan" "$@" >out 2>err </dev/null
    local got=$?
    [ $got -eq "$code" ] || fail "'$*' exits with $got, not $code: $(cat err)"
    if grep -qE '[^a-z](nan|inf)[^a-z]' out; then
        fail "'$*' prints a number that is none: $(cat out)"
    fi
}

says() {
    grep -qF -- "$2" "$1" || fail "expected '$2' in: $(cat "$1")"
}

# refuse ARGUMENTS... -- TEXT...: bad input; nothing on standard output, the message holds every text
refuse() {
    local arguments=() text
    while [ "$1" != -- ]; do
        arguments+=("$1")
        shift
    done
    shift
    expect 2 "${arguments[@]}"
    [ -s out ] && fail "'${arguments[*]}' prints in spite of its error: $(cat out)"
    for text in "$@"; do
        says err "$text"
    done
}

# number KEY: the first value of a key in the JSON output
number() {
    sed -n "s/^ *\"$1\": *\(-\{0,1\}[0-9.eE+-]*\),\{0,1\}$/\1/p" out | head -n 1
}

# near WHAT A B: equal to six digits
near() {
    awk -v a="$2" -v b="$3" 'BEGIN { d = a - b; d = d < 0 ? -d : d; m = b < 0 ? -b : b
        exit !(a != "" && b != "" && d <= 1e-6 * m) }' || fail "$1 is '$2', not '$3'"
}

# fact KEY: the value of a fact in the CSV output, which follow the tables
fact() {
    awk -v key="$1" '/^key,value$/ { facts = 1 } facts && index($0, key ",") == 1 {
        print substr($0, length(key) + 2) }' out
}

# pasted COMMAND: the examples of --help are commands as they stand
pasted() {
    local script
    expect 0 "$1" --help
    script=$(sed -n '/^Example/,/^$/p' out | sed 1d)
    mkdir -p bin paste
    ln -sf "$plan" bin/dualpipe_plan
    (cd paste && PATH=$folder/bin:$PATH && set -e && cp "$golden" plan.csv && eval "$script") >out 2>err ||
        fail "the examples of $1 --help: $(cat err)"
    [ -s err ] && fail "the examples of $1 --help: $(cat err)"
}

model=(--parameters 10M --hidden 1024 --sequence 512)
layout=(--schedule 1f1b --ranks 4 --micro-batches 12)

# A machine of round numbers: 1e12 flop/s, no other cost but 1 ms of latency on a link.
cat >round.json <<'JSON'
{"format": "dualpipe-hardware", "version": 1, "name": "round",
 "peak_flops_per_sec": {"fp32": {"value": 2e12, "source": "made up"}},
 "flops_fraction": {"value": 0.5, "source": "made up"},
 "memory_bytes": {"value": 1e12, "source": "made up"},
 "memory_bandwidth_bytes_per_sec": {"value": 1e21, "source": "made up"},
 "memory_fraction": {"value": 1, "source": "made up"},
 "op_overhead_sec": {"value": 0, "source": "made up"},
 "devices_per_node": {"value": 8, "source": "made up"},
 "node_link": {"latency_sec": {"value": 0.001, "source": "made up"},
               "bandwidth_bytes_per_sec": {"value": 1e21, "source": "made up"}},
 "network_link": {"latency_sec": {"value": 0.001, "source": "made up"},
                  "bandwidth_bytes_per_sec": {"value": 1e21, "source": "made up"}},
 "link_fraction": {"value": 1, "source": "made up"}}
JSON

test_throughput() {
    # N = 10 M, L = 1, h s = 524288; one rank, so the whole model an op: F = (2N + 4Lhs) s / 1e12
    expect 0 throughput --schedule gpipe --ranks 1 --micro-batches 3 "${model[@]}" --hardware round.json --json
    near "pipeline" "$(number pipeline_sec)" "$(awk 'BEGIN { printf "%.12g", 3 * (6e7 + 12 * 524288) * 512 / 1e12 }')"
    near "FLOPs" "$(number flops_per_step)" "$(awk 'BEGIN { printf "%.12g", 3 * (6e7 + 12 * 524288) * 512 }')"
    near "utilization" "$(number utilization)" 0.5
    near "reduction" "$(number reduction_sec)" 0
    says out '"format": "dualpipe-plan-throughput"'
    # a ring of 4: 6 messages, which cost their latency alone
    expect 0 throughput --schedule gpipe --ranks 2 --micro-batches 3 --replicas 4 "${model[@]}" \
        --hardware round.json --json
    near "reduction" "$(number reduction_sec)" 0.006
    near "devices" "$(number devices)" 8
    expect 0 throughput "${layout[@]}" "${model[@]}"
    says out "NVIDIA H100"
    says out "bf16"
    expect 0 throughput "${layout[@]}" "${model[@]}" --hardware cpu-generic
    says out "fp32"
    DPR_HARDWARE_DIR=$folder expect 0 throughput "${layout[@]}" "${model[@]}" --hardware round
    expect 0 throughput "${layout[@]}" "${model[@]}" --csv
    [ "$(fact schedule) $(fact ranks) $(fact micro_batches) $(fact fits)" = "1f1b 4 12 true" ] || fail "facts: $(cat out)"
    near "tokens/s of a step" "$(awk -v a="$(fact tokens_per_sec)" -v b="$(fact step_sec)" 'BEGIN { print a * b }')" 6144
}

test_measure() {
    expect 0 throughput "${layout[@]}" "${model[@]}" --hardware measure --hardware-output mine.json
    says err "written to mine.json"
    says mine.json '"format": "dualpipe-hardware"'
    expect 0 throughput "${layout[@]}" "${model[@]}" --hardware mine.json
    expect 2 throughput "${layout[@]}" "${model[@]}" --hardware measure --hardware-output nowhere/mine.json
    says err "cannot write nowhere/mine.json"
}

test_scaling() {
    expect 0 scaling --schedule 1f1b --ranks 1 --micro-batches 8 "${model[@]}" --hardware round.json \
        --values 1,2,3,4,16 --threshold 0.5 --json
    near "first efficiency" "$(number efficiency)" 1
    says out "the batch does not divide"
    # micro-batch: t = (6e7 + 12 * 524288) 512 / 1e12; a ring of n adds 2 (n - 1) ms
    local t
    t=$(awk 'BEGIN { printf "%.12g", (6e7 + 12 * 524288) * 512 / 1e12 }')
    near "second step" "$(sed -n 's/^ *"step_sec": \([0-9.e-]*\),*$/\1/p' out | sed -n 2p)" \
        "$(awk -v t="$t" 'BEGIN { printf "%.12g", 4 * t + 0.002 }')"
    expect 0 scaling --schedule dualpipe --ranks 2 --micro-batches 8 "${model[@]}" --axis ranks --values 2,3,4
    says out "not allowed by the schedule"
    expect 0 scaling --schedule 1f1b --ranks 2 --micro-batches 8 "${model[@]}" --mode weak --csv
    says out "ranks,replicas,devices,micro_batches,step_sec"
    # what does not fit is neither recommended nor what others are compared with
    local weak=(scaling --schedule zb1p --ranks 2 --micro-batches 64 --axis ranks --mode weak --parameters 2G
        --hidden 4096 --sequence 4096)
    expect 0 "${weak[@]}" --values 2,4,8,16,32 --csv
    [ "$(fact pays_up_to)" = 8 ] || fail "pays up to $(fact pays_up_to), not 8"
    grep -qE '^16,.*,,,does not fit in memory$' out || fail "16 ranks have an efficiency: $(cat out)"
    expect 0 scaling --schedule dualpipe --ranks 2 --micro-batches 32 --axis ranks --parameters 7G --hidden 4096 \
        --sequence 4096 --values 2,8,16 --csv
    grep -qE '^8,.*,1,1,fits$' out || fail "8 ranks, the first that fit, are not the baseline: $(cat out)"
    expect 0 "${weak[@]}" --values 16,32 --json
    says out '"pays_up_to": null'
    refuse scaling --schedule 1f1b --ranks 2 --micro-batches 32 "${model[@]}" --values 3,5,7 -- \
        "no point can run" "none of the replicas divides the batch" "32 micro-batches"
}

test_search() {
    local limits=(--min-ranks 2 --max-ranks 8 --batch 64 --memory 80G)
    expect 0 search "${limits[@]}" "${model[@]}" --json
    local best
    best=$(number step_sec)
    says out '"front"'
    mv out first
    expect 0 search "${limits[@]}" "${model[@]}" --json --threads 1
    cmp -s out first || fail "the number of threads shows in the result"
    # the winner, predicted by itself
    local schedule
    schedule=$(sed -n 's/^ *"schedule": "\(.*\)",*$/\1/p' out | head -n 1)
    expect 0 throughput --schedule "$schedule" --ranks "$(number ranks)" --micro-batches "$(number micro_batches)" \
        --micro-batch-size "$(number micro_batch_size)" --replicas "$(number replicas)" "${model[@]}" --json
    near "the winner's step" "$(number step_sec)" "$best"
    expect 0 search "${limits[@]}" "${model[@]}" --schedule dualpipe --top 2
    [ "$(grep -c '^dualpipe ' out)" -ge 3 ] || fail "two of the top and a front: $(cat out)"
    grep -qE '^(gpipe|1f1b) ' out && fail "another schedule than the one asked for: $(cat out)"
    expect 0 sensitivity "${limits[@]}" "${model[@]}" --json
    near "the winner's step" "$(number step_sec)" "$best"
    expect 0 sensitivity "${limits[@]}" "${model[@]}" --csv
    [ "$(fact schedule)" = "$schedule" ] || fail "the winner is not in the CSV: $(cat out)"
    # the v of the name counts
    expect 0 search "${limits[@]}" "${model[@]}" --schedule interleaved-1f1b:3 --json
    says out '"schedule": "interleaved-1f1b:3"'
    best=$(number step_sec)
    expect 0 throughput --schedule interleaved-1f1b:3 --ranks "$(number ranks)" \
        --micro-batches "$(number micro_batches)" --micro-batch-size "$(number micro_batch_size)" \
        --replicas "$(number replicas)" "${model[@]}" --json
    near "the step with v = 3" "$(number step_sec)" "$best"
    expect 0 sensitivity "${limits[@]}" "${model[@]}" --schedule interleaved-1f1b:3 --csv
    [ "$(fact schedule)" = interleaved-1f1b:3 ] || fail "sensitivity drops v: $(cat out)"
    expect 0 sensitivity "${limits[@]}" "${model[@]}" --json
    [ "$(grep -c '"change"' out)" = 14 ] || fail "seven costs, up and down: $(cat out)"
}

test_simulate() {
    local args=(simulate --schedule gpipe --ranks 4 --micro-batches 8)
    expect 0 "${args[@]}" --straggler 1=2 --json
    near "makespan" "$(number makespan)" 57 # 5 + 7 * 2 forwards, twice that for backwards
    says out '"closed_form": null'
    expect 0 "${args[@]}" --straggler 0=2 --straggler 1=2,2=2,3=2 --json
    near "makespan" "$(number makespan)" 66
    says out '"format": "dualpipe-plan-simulate"'
    expect 0 "${args[@]}" --jitter 0.2 --draws 100 --seed 5 --json
    mv out first
    expect 0 "${args[@]}" --jitter 0.2 --draws 100 --seed 5 --json
    cmp -s out first || fail "the same seed gives other draws"
    expect 0 "${args[@]}" --jitter 0.2 --draws 100 --seed 6 --json
    cmp -s out first && fail "another seed gives the same draws"
    echo '{"unit": "ms", "stages": [{"F": 1, "B": 2}, {"F": 2, "B": 4}, {"F": 1, "B": 2}, {"F": 1, "B": 2}],
        "link": {"latency_sec": 0, "bandwidth_bytes_per_sec": 1000}}' >costs.json
    expect 0 "${args[@]}" --cost-file costs.json --json
    near "makespan" "$(number makespan)" 0.057
    expect 0 "${args[@]}" --cost-file costs.json --message-bytes 1000000 --json
    near "wire" "$(number wire)" 1000
}

test_bad_input() {
    local machine=(throughput "${layout[@]}")
    refuse throughput "${model[@]}" -- "--schedule is missing"
    refuse "${machine[@]}" --hidden 8 --sequence 8 -- "--parameters is missing"
    refuse "${machine[@]}" --parameters 8 --sequence 8 -- "--hidden is missing" "1 to 1048576"
    refuse "${machine[@]}" --parameters 8 --hidden 8 -- "--sequence is missing" "1 to 16777216"
    local bad
    for bad in 0 -1 nan inf 1e9 99999999999999999999999 '' x 1.5; do
        refuse "${machine[@]}" "${model[@]}" --hidden "$bad" -- "--hidden '$bad': expected"
        refuse "${machine[@]}" "${model[@]}" --parameters "$bad" -- "--parameters '$bad': expected"
        refuse "${machine[@]}" "${model[@]}" --replicas "$bad" -- "--replicas '$bad': expected"
        refuse "${machine[@]}" "${model[@]}" --micro-batch-size "$bad" -- "--micro-batch-size '$bad': expected"
        refuse search "${model[@]}" --max-ranks 4 --batch "$bad" -- "--batch '$bad': expected"
        refuse search "${model[@]}" --batch 4 --max-ranks "$bad" -- "--max-ranks '$bad': expected"
        refuse search "${model[@]}" --batch 4 --max-ranks 4 --memory "$bad" -- "--memory '$bad': expected"
        refuse scaling "${layout[@]}" "${model[@]}" --values "1,$bad" -- "--values '"
        refuse simulate "${layout[@]}" --draws "$bad" -- "--draws '$bad': expected"
    done
    for bad in -0.1 nan inf 2.1 x ''; do
        refuse simulate "${layout[@]}" --jitter "$bad" -- "--jitter '$bad': expected a number from 0 to 2"
        refuse "${machine[@]}" "${model[@]}" --fb-factor "$bad" -- "--fb-factor '$bad': expected"
        refuse sensitivity --max-ranks 2 --batch 4 "${model[@]}" --change "$bad" -- "--change '$bad': expected"
        refuse scaling "${layout[@]}" "${model[@]}" --threshold "$bad" -- "--threshold '$bad': expected"
    done
    refuse simulate "${layout[@]}" --straggler 4=2 -- "expected a rank from 0 to 3"
    refuse simulate "${layout[@]}" --straggler 1=2 --straggler 1=3 -- "rank 1 has a factor already"
    refuse simulate "${layout[@]}" --jitter 0.1 --draws 1000000 -- "--draws 1000000" "at most"
    refuse simulate --schedule interleaved-1f1b:0 --ranks 4 --micro-batches 8 -- "1 to 8192 stages per rank"
    refuse simulate --schedule gpipe --ranks 4096 --micro-batches 65536 -- "too large" "at most 8192 stages and 67108864"
    refuse simulate "${layout[@]}" --straggler 1=0 -- "expected a factor from 0.001 to 1000"
    refuse simulate "${layout[@]}" --cost F=1e308 -- "more than a number can hold"
    refuse simulate "${layout[@]}" --cost-file none.json -- "none.json"
    refuse "${machine[@]}" "${model[@]}" --hardware none -- "hardware 'none': no such file"
    refuse "${machine[@]}" "${model[@]}" --hardware round.json --precision bf16 -- "no peak for bf16"
    refuse "${machine[@]}" "${model[@]}" --precision fp8 -- "expected fp32, tf32 or bf16"
    refuse "${machine[@]}" "${model[@]}" --optimizer lion -- "expected adamw or sgd"
    sed 's/"value": 0.5/"value": 0/' round.json >zero.json
    refuse "${machine[@]}" "${model[@]}" --hardware zero.json -- "flops fraction is 0"
    refuse scaling "${layout[@]}" "${model[@]}" --axis up -- "--axis 'up': expected ranks or replicas"
    refuse scaling "${layout[@]}" "${model[@]}" --values 2,1 -- "ascending"
    refuse search --max-ranks 4 "${model[@]}" -- "--batch is missing"
    refuse search --min-ranks 5 --max-ranks 4 --batch 4 "${model[@]}" -- "--min-ranks 5: expected 1 to 4"
    refuse search --max-ranks 4 --max-devices 3 --batch 4 "${model[@]}" -- "--max-devices 3: expected at least 4"
    refuse search --max-ranks 4 --batch 4 --memory 1k "${model[@]}" -- "none of" "allow more memory"
    refuse search --max-ranks 4 --batch 4 --schedule none "${model[@]}" -- "unknown schedule 'none'"
    refuse search --min-ranks 4 --max-ranks 4 --batch 7 --schedule dualpipe "${model[@]}" -- "no schedule can run"
}

test_throughput
test_measure
test_scaling
test_search
test_simulate
test_bad_input
for command in throughput scaling search sensitivity; do
    expect 0 "$command" --help
    says out "Example:"
done
for command in schedule simulate throughput scaling search sensitivity verify; do
    pasted "$command"
done
[ $failures -eq 0 ] || exit 1
