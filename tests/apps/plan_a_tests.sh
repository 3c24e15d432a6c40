#!/usr/bin/env bash
# bubbles, compare, comm, memory and verify of dualpipe_plan from the outside: numbers, formats, exit
# codes, messages. Usage: plan_a_tests.sh DUALPIPE_PLAN GOLDEN_FOLDER
set -u
plan=$1
golden=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failures=0

fail() {
    printf 'FAILED: %s\n' "$1" >&2
    failures=$((failures + 1))
}

# expect CODE ARGUMENTS...: runs the program; output and errors go to $folder/out and $folder/err
expect() {
    local code=$1
    shift
    "$plan" "$@" >"$folder/out" 2>"$folder/err"
    local got=$?
    [ $got -eq "$code" ] || fail "'$*' exits with $got, not $code: $(cat "$folder/err")"
    if grep -qE '[^a-z](nan|inf)[^a-z]' "$folder/out"; then
        fail "'$*' prints a number that is none: $(cat "$folder/out")"
    fi
}

# refuse ARGUMENTS... -- TEXT...: bad input; the message holds every text
refuse() {
    local arguments=()
    while [ "$1" != -- ]; do
        arguments+=("$1")
        shift
    done
    shift
    expect 2 "${arguments[@]}"
    for text in "$@"; do
        says err "$text"
    done
}

says() {
    grep -qF -- "$2" "$folder/$1" || fail "expected '$2' in: $(cat "$folder/$1")"
}

# row NAME WORDS...: the line of the output that begins with the name has these words, in order
row() {
    local line
    line=$(grep -E "^$1 " "$folder/out" | head -n 1 | tr -s ' #' ' ')
    [ "$line" = "$*" ] || fail "expected '$*', found '$line'"
}

# field NAME COLUMN VALUE: of the CSV output's first table
field() {
    local got
    got=$(awk -F, -v name="$1" -v column="$2" '
        NR == 1 { for (i = 1; i <= NF; i++) if ($i == column) at = i; next }
        $1 == name && !found { print $at; found = 1 }' "$folder/out")
    [ "$got" = "$3" ] || fail "$2 of $1 is '$got', not '$3'"
}

# fact KEY VALUE: of the CSV output's last table
fact() {
    local got
    got=$(awk -v key="$1" '/^key,value$/ { facts = 1 } facts && index($0, key ",") == 1 {
        print substr($0, length(key) + 2) }' "$folder/out")
    [ "$got" = "$2" ] || fail "$1 is '$got', not '$2'"
}

# ---- help -----------------------------------------------------------------------------------------
expect 0 --help
for command in bubbles compare comm memory verify; do
    expect 0 --help
    says out "  $command"
    expect 0 $command --help
    says out "Example"
    says out "dualpipe_plan $command"
    says out "--json"
done

# ---- bubbles --------------------------------------------------------------------------------------
expect 0 bubbles --table --stages 16
row 1F1B "(PP-1)(F+B)" 45 1x PP 16 PP 16
row ZB1P "(PP-1)(F+B-2W)" 15 1x PP 16 PP 16
row DualPipe "(PP/2-1)(F&B+B-3W)" 14 2x PP+1 17 PP 16
row DualPipeV "(PP/2-1)(F&B+B-3W)" 14 2x PP+1 17 PP/2 8
expect 0 bubbles --table --stages 7
row DualPipe "(PP/2-1)(F&B+B-3W)" - 2x PP+1 - PP - needs an even number of stages
expect 0 bubbles --table --stages 4 --cost F=1,I=1,W=0.5,FB=2 --csv
field DualPipe bubble 2
field ZB1P bubble 4.5
expect 0 bubbles --stages 4 --micro-batches 16 --csv
field 1f1b closed_form_bubble 9
field 1f1b simulated_bubble 9
field dualpipe simulated_bubble 2
field dualpipev ranks 2
field dualpipev exactness exact
expect 0 bubbles --ranks 4 --micro-batches 8 --schedule gpipe,1f1b --cost wire=0.5 --csv
field gpipe closed_form_bubble 12 # (P-1)(F+B) + 2 (P-1) wire
field gpipe exactness exact
field 1f1b closed_form_bubble 17 # 16 wires
field 1f1b simulated_bubble 17
fact cost_wire 0.5
fact micro_batches 8
expect 0 bubbles --ranks 8 --micro-batches 3 --schedule v-min --csv # exact for M < P, too
field v-min exactness exact
field v-min simulated_bubble 27
field v-min closed_form_bubble 27
expect 0 bubbles --ranks 4 --micro-batches 8 --schedule zb1p --cost wire=0.5 --json
says out '"format": "dualpipe-plan-bubbles"'
says out '"exactness": "lower bound"'
says out '"condition": "no wire time"'
expect 0 bubbles --ranks 4 --micro-batches 8 --schedule 1f1b,zb1p --target 0.1 --csv
field 1f1b micro_batches_for_target 27
field zb1p micro_batches_for_target 9
# the v of the name counts: a bubble of 9 and 12 M of work
expect 0 bubbles --ranks 4 --micro-batches 8 --schedule interleaved-1f1b:4 --target 0.05 --csv
field interleaved-1f1b:4 micro_batches_for_target 16 # 9 / (9 + 12 M) <= 0.05 from M = 15
expect 0 bubbles --ranks 3 --micro-batches 6 --schedule dualpipe,1f1b
says out "schedule dualpipe cannot run on 3 ranks: it needs P even"
expect 2 bubbles --ranks 3 --micro-batches 6 --schedule dualpipe
says err "--micro-batches 6: none of the schedules can run"

# ---- compare --------------------------------------------------------------------------------------
expect 0 compare --ranks 4 --micro-batches 8 --csv
field 1f1b step 33
field zb1p step 27
field dualpipe step 26
field dualpipe parameter_copies 2
field dualpipev step 27
field dualpipev activation_shares 4.5
field 1f1b messages 48
field dualpipev messages 96
field 1f1b memory_bytes ""
fact cost_b 2
fact costs_are_of "one of P stages"
expect 0 compare --ranks 4 --micro-batches 8 --own-stages --csv
field dualpipev step 54
expect 0 compare --ranks 4 --micro-batches 8 --sort --schedule 1f1b,dualpipe,zb1p --csv
[ "$(cut -d, -f1 "$folder/out" | head -n 4 | tr '\n' ' ')" = "schedule dualpipe zb1p 1f1b " ] ||
    fail "--sort: $(cat "$folder/out")"
cp "$golden/dualpipe_4ranks_8mb.csv" "$folder/plan.csv"
expect 0 compare --ranks 4 --micro-batches 8 --schedule dualpipe --schedule-file "$folder/plan.csv" --csv
field file step 26
expect 0 compare --ranks 4 --micro-batches 8 --schedule dualpipe --parameters 250M --hidden 1024 \
    --sequence 2048 --batch 32 --json
says out '"memory_bytes": '
says out '"message_bytes": 805306368' # 48 messages of 2 x 2048 x 4 x 1024
refuse compare --ranks 4 --micro-batches 9 --schedule-file "$folder/plan.csv" -- "8 micro-batches"

# ---- comm -----------------------------------------------------------------------------------------
expect 0 comm --ranks 4 --micro-batches 8 --message-bytes 1000 --csv
field 1f1b messages 48
field 1f1b closed_form_messages 48
field 1f1b bytes 48000
field dualpipev messages 96
field interleaved-1f1b messages 112
expect 0 comm --ranks 2 --micro-batches 4 --schedule gpipe --tolerance 0.1 --message-bytes 75 --csv
# (M + 1)(F + B) + 2 wire = 15 + 2 wire within 16.5
awk -F, 'NR == 2 && ($6 < 0.7499999 || $6 > 0.7500001 || $7 < 99.9999 || $7 > 100.0001) { exit 1 }' \
    "$folder/out" || fail "hidden wire of gpipe: $(cat "$folder/out")"
expect 0 comm --schedule dualpipe --ranks 4 --micro-batches 8 --gradient-bytes 600 --replicas 3 --csv
field dualpipe replica_bytes 4800   # 4 ranks x 2 stages x 600
field dualpipe reduction_bytes 8000 # x 2 (6 - 1) / 6
expect 0 comm --schedule dualpipe --ranks 4 --micro-batches 8
says out "   1   2  activation         4"
expect 0 comm --schedule 1f1b,dualpipe,zb1p --ranks 8 --micro-batches 32 --crossover
grep -qE '^dualpipe +1f1b +-$' "$folder/out" || fail "dualpipe and 1f1b: $(cat "$folder/out")"
grep -qE '^dualpipe +zb1p +0.111111$' "$folder/out" || fail "dualpipe and zb1p: $(cat "$folder/out")"
expect 0 comm --schedule 1f1b --ranks 1 --micro-batches 8
says out "unlimited"
expect 0 comm --schedule-file "$folder/plan.csv"
says out "48"

# ---- memory ---------------------------------------------------------------------------------------
expect 0 memory --ranks 4 --micro-batches 16 --parameters 250M --hidden 1024 --sequence 2048 --batch 64 --csv
field 1f1b parameter_bytes 500000000
field 1f1b optimizer_bytes 3000000000
field dualpipe parameters 500000000
field dualpipe stages 2
expect 0 memory --schedule 1f1b --ranks 2 --micro-batches 4 --model sizes --parameters 100 \
    --saved-bytes 1000 --message-bytes 10 --slot-alignment 1 --dtype fp32 --optimizer sgd --csv
field 1f1b saved_bytes 2000
field 1f1b optimizer_bytes 400
field 1f1b gradient_bytes 400
expect 0 memory --schedule 1f1b,gpipe --ranks 2 --micro-batches 4 --model sizes --parameters 100 \
    --saved-bytes 1000 --message-bytes 10 --limit 5000 --csv
field gpipe fits false
field 1f1b fits true
for limit in 3K=3000 3k=3000 3Ki=3072 5M=5000000 5Mi=5242880 2G=2000000000 2Gi=2147483648; do
    expect 0 memory --schedule 1f1b --ranks 2 --micro-batches 4 --model sizes --parameters 100 \
        --saved-bytes 1000 --message-bytes 10 --limit "${limit%=*}" --csv
    fact limit_bytes "${limit#*=}"
done
expect 0 memory --schedule zb1p --ranks 2 --micro-batches 4 --model mlp --hidden 32 --blocks 4 \
    --micro-batch-size 2 --json
says out '"format": "dualpipe-plan-memory"'
says out '"rank": 1'
expect 0 memory --schedule-file "$folder/plan.csv" --model sizes --parameters 100 --saved-bytes 1000 \
    --message-bytes 10
says out "$folder/plan.csv"
exact=(memory --exact --schedule dualpipe,v-min --ranks 4 --micro-batches 10 --model mlp --input 16 --classes 4
    --hidden 16 --ffn 32 --blocks 16 --micro-batch-size 4)
expect 0 "${exact[@]}" --dtype fp32 --limit 194467 --csv
field dualpipe total_bytes 194468 # what a run of dualpipe_train with these sizes reports as held
field dualpipe fits false
field v-min fits true
fact limit_bytes 194467
expect 0 "${exact[@]}" --dtype fp32 --json
says out '"format": "dualpipe-plan-memory-exact"'
expect 0 "${exact[@]}" --dtype bf16 --csv # activations of half the size, and a copy of the parameters
field dualpipe arena_bytes 23808
field dualpipe stage_bytes 91720
expect 0 "${exact[@]}" --dtype tf32 --csv
field dualpipe total_bytes 194468
expect 2 "${exact[@]}" --dtype fp8
says err "expected fp32, tf32 or bf16"
expect 2 memory --exact --ranks 4 --micro-batches 10
says err "expected --model mlp"

# ---- verify ---------------------------------------------------------------------------------------
expect 0 verify "$folder/plan.csv"
says out "deadlock-free       yes"
grep -qE '^ +0 +[0-9]+ +5 +8 +0 3$' "$folder/out" || fail "rank 0: $(cat "$folder/out")"
grep -qE '^ +1 +[0-9]+ +5 +16 +1 2$' "$folder/out" || fail "rank 1: $(cat "$folder/out")"
printf '0F0,0B0,0F1,0B1\n1F0,1F1,1B0,1B1\n' >"$folder/dead.csv"
expect 2 verify "$folder/dead.csv"
says out "data flow complete  yes"
says out "deadlock-free       no"
says err "rank 0: 0B0 waits for rank 1 -> 0: gradient of 1B0 (its input)"
printf '0F0,0B0,0F1\n1F0,1F1,1B0,1B1\n' >"$folder/incomplete.csv"
expect 2 verify "$folder/incomplete.csv" --json
says out '"data_flow_complete": false'
says out '"deadlock_free": null'
says err "0F1 has no backward"
expect 2 verify "$folder/dead.csv" --csv
fact valid false
fact deadlock_free false
expect 0 verify "$folder/plan.csv" --csv
fact valid true
fact deadlock_free true
fact counterexample ""
printf '0F0,0F1\n1F0,1F1\n' >"$folder/forward.csv"
expect 0 verify "$folder/forward.csv"
says out "forward only        yes"
printf '0F0,0Q0\n' >"$folder/bad.csv"
refuse verify "$folder/bad.csv" -- "bad.csv:1:"
refuse verify "$folder/none.csv" -- "none.csv"
refuse verify -- "a file is missing"
refuse verify "$folder/plan.csv" "$folder/dead.csv" -- "one file at a time"
refuse verify "$folder" -- "$folder"

# ---- bad input: the option and the range ----------------------------------------------------------
for value in 0 -1 4097 99999999999999999999 1.5 x nan ""; do
    for command in bubbles compare comm memory; do
        refuse $command --ranks "$value" --micro-batches 8 -- "--ranks '$value'" "1 to 4096"
    done
done
for value in 0 -3 65537 1e3; do
    for command in bubbles compare comm memory; do
        refuse $command --ranks 4 --micro-batches "$value" -- "--micro-batches '$value'" "1 to 65536"
    done
done
for value in nan inf -1 "" x 1e400; do
    for command in bubbles compare comm; do
        refuse $command --ranks 4 --micro-batches 8 --cost "F=$value" -- "F=$value"
    done
done
for command in bubbles compare comm; do
    refuse $command --ranks 4 --micro-batches 8 --cost F=1e308 --schedule 1f1b -- "not finite"
    refuse $command --ranks 4 --micro-batches 8 --schedule 1f1b,nonsense -- "nonsense" "dualpipev"
    refuse $command --ranks 4 --micro-batches 8 --json --csv -- "not both"
    refuse $command --ranks 1024 --micro-batches 8192 --schedule gpipe -- "1048576"
done
for command in bubbles compare comm; do
    refuse $command --ranks 4 --micro-batches 8 --schedule 1f1b,1f1b, -- "--schedule '1f1b,1f1b,'" "one name or more"
    refuse $command --ranks 4 --micro-batches 8 --schedule interleaved-1f1b:0 -- "1 to 8192 stages per rank"
    refuse $command --ranks 128 --micro-batches 4096 -- "too much to play out" "lower --ranks or --micro-batches"
done
refuse bubbles --stages 128 --micro-batches 4096 -- "too much to play out" "lower --stages"
expect 0 bubbles --ranks 8 --micro-batches 16 --schedule 1f1b,zb1p --cost wire=0.1 --target 0.0001
says out "expected a larger ratio or fewer ranks"
refuse bubbles --micro-batches 8 -- "--stages (1 to 8192)" "--ranks (1 to 4096)"
refuse bubbles --stages 4 -- "--micro-batches is missing" "1 to 65536"
refuse bubbles --table -- "--stages is missing" "1 to 8192"
refuse bubbles --table --stages 0 -- "--stages '0'" "1 to 8192"
refuse bubbles --ranks 4 --micro-batches 8 --target 1 -- "--target '1'"
refuse bubbles --ranks 4 --micro-batches 8 --target nan -- "--target 'nan'"
refuse compare --micro-batches 8 -- "--ranks is missing"
refuse comm --ranks 4 --micro-batches 8 --tolerance -1 -- "--tolerance '-1'" "0 to 10"
refuse comm --ranks 4 --micro-batches 8 --replicas 0 -- "--replicas '0'" "1 to 1048576"
refuse comm --ranks 4 --micro-batches 8 --message-bytes 0 -- "--message-bytes '0'"
refuse comm --ranks 4 --micro-batches 8 --message-bytes 2000T -- "--message-bytes '2000T'"
refuse comm --ranks 4 --micro-batches 8 --message-bytes 99999999999999999999 -- "--message-bytes"
refuse comm --ranks 4 --micro-batches 8 --most-wire 0 -- "--most-wire '0'"
refuse comm --ranks 512 --micro-batches 1024 --schedule gpipe,1f1b,zb1p --crossover -- "--schedule"
model="memory --ranks 4 --micro-batches 16"
# shellcheck disable=SC2086
{
    refuse $model -- "--parameters is missing"
    refuse $model --parameters 250M -- "--hidden is missing"
    refuse $model --parameters 0 -- "--parameters '0'"
    refuse $model --parameters 250X -- "--parameters '250X'"
    refuse $model --parameters 250M --hidden 1024 --sequence 2048 -- "--batch" "--micro-batch-size"
    refuse $model --parameters 250M --hidden 1024 --sequence 2048 --batch 63 -- "--batch 63" "64"
    refuse $model --parameters 250M --hidden 1024 --sequence 2048 --batch 64 --ffn 3 -- "--ffn" "transformer"
    refuse $model --model tree -- "--model 'tree'" "transformer, mlp or sizes"
    refuse $model --model mlp --hidden 8 --blocks 3 --batch 16 -- "3 blocks"
    refuse $model --model sizes --parameters 5 -- "--saved-bytes is missing"
    refuse $model --model sizes --parameters 5 --saved-bytes -5 -- "--saved-bytes '-5'"
    refuse $model --dtype fp8 -- "fp8" "bf16"
    refuse $model --optimizer lion -- "lion" "adamw"
    refuse $model --parameters 2T --hidden 16777216 --sequence 16777216 --batch 16777216 -- "2^53"
    refuse $model --limit 0 -- "--limit '0'"
    refuse $model --limit 5KB -- "--limit '5KB'" "K, M, G, T: times 1000; Ki, Mi, Gi, Ti: times 1024"
}

# failure of the machine: exit code 1
if [ -w /dev/full ]; then
    for command in "bubbles" "compare --json" "comm --csv"; do
        # shellcheck disable=SC2086
        "$plan" $command --ranks 2 --micro-batches 4 >/dev/full 2>"$folder/err"
        [ $? -eq 1 ] || fail "$command on a full disk does not exit with 1: $(cat "$folder/err")"
    done
fi

[ $failures -eq 0 ] || exit 1
echo "plan_a_tests: all passed"
