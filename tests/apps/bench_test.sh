#!/usr/bin/env bash
# bench_test.sh BENCH COMPLETION: every command of dualpipe_bench runs, alone and under a launcher, and its
# JSON has the numbers that docs/bench.md lists; bad input gets one clear error and exit code 2. Nothing is
# said of how fast anything is.
set -euo pipefail
bench=$1
completion=$2
docs=$(dirname "$0")/../../docs/bench.md
# shellcheck source=tests/apps/mpi_env.sh
. "$(dirname "$0")/mpi_env.sh"
small=(--hidden 16 --ffn 32 --micro-batch-size 4)
few=(--repeats 3 --warm-up 1 --quiet --device host)

# numbers KEY SIGN: the last JSON's values of KEY are numbers, at least one, and above 0 ("+"), at least 0
# ("0") or of either sign ("any"). One key a line is how the JSON is written.
numbers() {
    local key=$1 sign=$2
    awk -v key="\"$key\":" -v sign="$sign" '
        $1 == key {
            value = $2
            sub(/,$/, "", value)
            count++
            if (value !~ /^-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?$/) bad = 1
            if (sign == "+" && !(value + 0 > 0)) bad = 1
            if (sign == "0" && !(value + 0 >= 0)) bad = 1
        }
        END { exit count == 0 || bad }' "$scratch/r.json" || fail "$what: $key is not as it must be ($sign)"
}

# measure RANKS COMMAND OPTIONS...: 0 ranks: no launcher. The JSON is in r.json.
measure() {
    local ranks=$1
    what="$2 on $1"
    shift
    rm -f "$scratch/r.json"
    local launcher=()
    [ "$ranks" = 0 ] || launcher=(mpirun -np "$ranks")
    run 120 "${launcher[@]}" "$bench" "$@" "${few[@]}" --json "$scratch/r.json"
    expect 0 '' "$what"
    grep -qF "\"format\": \"dualpipe_bench $1\"" "$scratch/r.json" || fail "$what: no such format"
    for key in ranks cores repeats; do
        numbers "$key" +
    done
    local key
    for key in $(grep -oE '"[a-z0-9_]+":' "$scratch/r.json" | tr -d '":' | sort -u); do
        grep -qF "\`$key\`" "$docs" || fail "$what: docs/bench.md does not list $key"
    done
}

# rows KEY COUNT: so many times the key stands in the JSON.
rows() {
    local found
    found=$(grep -cF "\"$1\":" "$scratch/r.json") || true
    [ "$found" = "$2" ] || fail "$what: $found rows with $1, expected $2"
}

# ---- Every command ----

measure 0 gemm --rows 3,5 --in 7,16 --out 11,1
rows of_plain 12
for key in sec plain_sec flops_per_sec plain_flops_per_sec of_plain of_peak peak_flops_per_sec; do
    numbers "$key" +
done
measure 2 gemm --rows 4 --in 8 --out 8 --peak 1e11
numbers peak_flops_per_sec +
grep -q '"peak_source": "given"' "$scratch/r.json" || fail "$what: the peak is not the one given"

measure 2 p2p --sizes 1,8,5000 --messages 5
rows pattern 9
rows together_sec 12
for key in sec bytes_per_sec plain_sec plain_bytes_per_sec over_plain small_sec alone_sec together_sec; do
    numbers "$key" +
done
measure 3 p2p --sizes 64 --messages 3 --schedule 1f1b
rows together_sec 4
measure 0 p2p --ranks 4 --sizes 64 --messages 3
numbers together_sec +
grep -q '"plain_sec": null' "$scratch/r.json" || fail "$what: plain MPI among threads"

for ranks in 0 2 3; do
    measure "$ranks" overlap "${small[@]}"
    rows slowdown 4
    for key in alone_sec traffic_sec messages; do
        numbers "$key" +
    done
done

measure 0 scheduler --schedule 1f1b,dualpipe --micro-batches 8,20 "${small[@]}"
rows cpu_ns_per_command 4
rows recording_sec 3
for key in commands_per_rank cpu_ns_per_command wall_ns_per_command step_sec event_cpu_ns; do
    numbers "$key" +
done
numbers recording_sec 0
numbers over_bare any
measure 2 scheduler --schedule dualpipe "${small[@]}"
numbers cpu_ns_per_command +

measure 2 step --schedule 1f1b,dualpipe "${small[@]}"
rows step_sec 2
for key in step_sec span_sec samples_per_sec gemm_flops flops_per_sec bound_sec bound_flops_per_sec \
    span_efficiency step_efficiency scheduler_ratio; do
    numbers "$key" +
done
for key in bubble_ratio reduction_sec update_sec host_ratio wire_ratio buffer_ratio; do
    numbers "$key" 0
done
# the products of a step, from the model alone: 3 of each layer, but no gradient of the input
measure 0 step --ranks 1 --schedule 1f1b --micro-batches 3 --blocks 2 "${small[@]}" --clock core
want=$(awk 'BEGIN { print 3 * (2 * 4 * (784 * 16 * 2 + 2 * 2 * 16 * 32 * 3 + 16 * 10 * 3)) }')
got=$(awk '$1 == "\"gemm_flops\":" { printf "%d", $2 }' "$scratch/r.json")
[ "$got" = "$want" ] || fail "$what: $got operations, expected $want"

# ---- The referee: under the model clock the measurement is the simulation ----

costs=(--clock model --cost-model F=1e-3,I=1e-3,W=1e-3,wire=1e-4)
measure 4 referee "${costs[@]}" --steps 2 --shape 16x32x8x2,16x32 --micro-batches 8,12 \
    --csv "$scratch/r.csv" --plot "$scratch/r.svg"
awk '
    function value() { sub(/,$/, "", $2); return $2 + 0 }
    /"(step_error|step_error_least|step_error_most|bubble_error|part_cost|part_wire|part_host|part_order)":/ {
        count++
        if (value() > 1e-9 || value() < -1e-9) bad = 1
    }
    /"blame":/ && $2 != "\"-\"" { bad = 1 }
    END { exit count < 7 || bad }' "$scratch/r.json" || fail "$what: errors under the model clock"
for key in step_predicted_sec step_measured_sec step_simulated_sec; do
    numbers "$key" +
done
numbers rows_missed 0
[ "$(grep -cF '"schedule":' "$scratch/r.json")" = "$(awk -F, '/^$/ { exit } NR > 1' "$scratch/r.csv" | wc -l)" ] ||
    fail "$what: CSV and JSON have different rows"
[ "$(grep -c '<circle' "$scratch/r.svg")" -gt 20 ] || fail "$what: the plot has no points"
# closed forms that are exact without wire time equal the measurement
measure 4 referee --clock model --cost-model F=1e-3,I=1e-3,W=1e-3 --steps 1 --schedule 1f1b,dualpipe,dualpipev \
    --micro-batches 8 --shape 16x32x8x2
awk '/"step_closed_error":/ { sub(/,$/, "", $2); count++; if ($2 + 0 > 1e-9 || $2 + 0 < -1e-9) bad = 1 }
    END { exit count != 3 || bad }' "$scratch/r.json" || fail "$what: closed forms"

# measured for real, several runs: the errors' extremes enclose their median
measure 2 referee --clock core --steps 2 --calibrate 1 --schedule dualpipe "${small[@]}"
for key in step_measured_sec step_predicted_sec; do
    numbers "$key" +
done
for key in step_error part_cost part_wire part_host part_order; do
    numbers "$key" any
done

# ---- Standard output ----

run 60 "$bench" gemm --rows 2 --in 2 --out 2 --peak 1e11 "${few[@]}" --json - --csv "$scratch/g.csv"
expect 0 '"products": \[' 'JSON to standard output'
grep -q '^rows,in,out,product,' "$scratch/g.csv" || fail 'the CSV has no header'

if [ -n "${DPR_TEST_SHORT-}" ]; then # what follows is parsing, and slow only in starting programs
    finish
    exit
fi

# ---- Bad input ----

bad() { # bad TEXT WHAT OPTIONS...
    local text=$1 name=$2
    shift 2
    run 60 "$bench" "$@"
    expect 2 "$text" "$name"
    expect_once "$text" "$name: said once"
}

bad 'a command is missing' 'no command'
bad "unknown command 'fly'.*gemm.*referee" 'an unknown command' fly
bad "unexpected argument 'extra'" 'a stray argument' gemm extra
bad "rows '0': expected a whole number from 1 to" 'no rows' gemm --rows 0
bad "in '': expected a whole number" 'a hole in a list' gemm --in 3,,4
bad 'in has 2 numbers and --out 1' 'lists of different lengths' gemm --in 3,4 --out 5
bad "peak '-1': expected a number from 1" 'a negative peak' gemm --peak -1
bad "repeats '0'" 'no repeats' step --repeats 0
bad "clock 'sun': expected one of auto, wall, core, model" 'an unknown clock' step --clock sun
bad "clock 'model': step measures" 'the model clock where it has no sense' step --clock model
bad "device 'tpu'" 'an unknown device' step --device tpu
bad 'schedule.*dualpipe' 'an unknown schedule' step --schedule none
bad 'dualpipe cannot run on 3 ranks' 'P that the schedule does not allow' step --schedule dualpipe --ranks 3
bad 'blocks' 'fewer blocks than stages' step --schedule 1f1b --ranks 4 --blocks 2
bad "sizes 'x': expected a whole number" 'a size that is no number' p2p --sizes 8,x
bad 'at least 2 ranks' 'p2p alone' p2p --ranks 1
bad 'p2p measures real time' 'p2p by the core clock' p2p --clock core
bad "shape '16'" 'half a shape' referee --shape 16
bad "shape '16x32x'" 'a shape cut short' referee --shape 16x32x
bad 'needs --cost-model' 'the model clock without costs' referee --clock model
bad 'only used by --clock model' 'costs without their clock' referee --cost-model F=1,I=1,W=1
bad 'F=quick|quick' 'costs that do not parse' referee --clock model --cost-model F=quick
bad 'none of the schedules' 'nothing that can run' referee --ranks 2 --schedule dualpipe --micro-batches 1
bad 'cannot be written' 'a file that cannot be written' gemm --rows 2 --in 2 --out 2 --peak 1e9 --repeats 1 --quiet \
    --device host --json "$scratch/no/such/file.json"
run 60 mpirun -np 1 "$bench" gemm --rows 2 --in 2 --out 2 "${few[@]}" : \
    -np 1 "$bench" gemm --rows 3 --in 2 --out 2 "${few[@]}"
expect 2 'different options' 'ranks started with different options'

# ---- Help, version, completion ----

for command in gemm p2p overlap scheduler step referee; do
    run 60 mpirun -np 2 "$bench" "$command" --help
    expect 0 '--json' "help of $command"
    expect_once '^Usage' "help of $command is printed once"
done
run 60 "$bench" --version
expect 0 '^dualpipe_bench [0-9]' 'version'

# shellcheck source=/dev/null
. "$completion"
offers() { # offers EXPECTED WORDS...
    local want=$1 got
    shift
    COMP_WORDS=("$@")
    COMP_CWORD=$(($# - 1))
    COMPREPLY=()
    _dualpipe_bench
    got=$(printf '%s ' "${COMPREPLY[@]}")
    [ "$got" = "$want " ] || fail "completion of '${*:2}': '$got', expected '$want'"
}
offers referee "$bench" ref
offers --micro-batch-size "$bench" step --micro-batch-
offers core "$bench" step --clock c
offers zb1p "$bench" step --schedule zb1
finish
