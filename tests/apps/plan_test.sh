#!/usr/bin/env bash
# dualpipe_plan from the outside. Usage: plan_test.sh DUALPIPE_PLAN GOLDEN_FOLDER
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
    if [ "$code" -ne 0 ] && [ -s "$folder/out" ]; then
        fail "'$*' fails but prints to standard output"
    fi
}

# says FILE TEXT: the output (out) or the errors (err) hold the text
says() {
    grep -qF -- "$2" "$folder/$1" || fail "expected '$2' in: $(cat "$folder/$1")"
}

# the schedule command prints the recorded programs
expect 0 schedule --schedule dualpipe --ranks 4 --micro-batches 8
cmp -s "$folder/out" "$golden/dualpipe_4ranks_8mb.csv" || fail "dualpipe 4x8 differs"
expect 0 schedule --schedule=dualpipev --micro-batches=10 --ranks=4
cmp -s "$folder/out" "$golden/dualpipev_4ranks_10mb.csv" || fail "dualpipev 4x10 differs"

expect 0 schedule --schedule dualpipe --ranks 4 --micro-batches 8 --json
says out '"format": "dualpipe-plan-schedule"'
says out '"version": 1'
grep -o '"[0-9(][^"]*"' "$folder/out" | tr -d '"' >"$folder/actions"
tr ',' '\n' <"$golden/dualpipe_4ranks_8mb.csv" | cmp -s - "$folder/actions" || fail "the actions of schedule --json"

# help, version
expect 0 --help
says out "schedule "
says out "simulate "
says out "Example"
expect 0 --version
grep -qE '^dualpipe_plan [0-9]+\.[0-9]+\.[0-9]+$' "$folder/out" || fail "--version"
for command in schedule simulate; do
    expect 0 $command --help
    says out "--micro-batches"
    says out "Example"
    says out "dualpipe_plan $command --schedule dualpipe"
    says out "needs P even, M even, M >= 2P"
done

# simulate, as a table and as JSON, of a name and of a file
expect 0 simulate --schedule dualpipe --ranks 8 --micro-batches 20
says out "makespan       66"
says out "bubble ratio   9.09 %"
says out "closed form    bubble 6, ratio 9.09 % (exact for these costs)"
[ "$(grep -cE '^ +[0-7] +60 +6 +9\.09 % +9$' "$folder/out")" -eq 8 ] || fail "the table of ranks"
expect 0 simulate --schedule zb1p --ranks 2 --micro-batches 4 --cost F=1,I=1,W=1,wire=0.5
says out "(lower bound; exact where: no wire time)"
expect 0 simulate --schedule-file "$golden/dualpipe_8ranks_20mb.csv" --cost F=2,I=2,W=2
says out "makespan       132"
says out "closed form    none known for this program"
expect 0 simulate --schedule dualpipe --ranks 8 --micro-batches 20 --json
if command -v python3 >/dev/null; then
    python3 - "$folder/out" <<'PY' || fail "the JSON is not as documented"
import json, sys
r = json.load(open(sys.argv[1]))
assert r["schedule"] == "dualpipe" and r["schedule_file"] is None
assert (r["ranks"], r["stages"], r["micro_batches"]) == (8, 8, 20)
assert r["cost"] == {"F": 1, "I": 1, "W": 1, "B": 2, "FB": 3, "wire": 0}
assert r["makespan"] == 66 and abs(r["bubble_ratio"] - 6 / 66) < 1e-12
form = r["closed_form"]
assert form["bubble"] == 6 and abs(form["bubble_ratio"] - 6 / 66) < 1e-12
assert form["exactness"] == "exact" and form["condition"]
assert [x["rank"] for x in r["per_rank"]] == list(range(8))
for x in r["per_rank"]:
    assert x["busy"] == 60 and x["bubble"] == 6 and x["peak_activations"] == 9
    assert abs(x["bubble_ratio"] - 6 / 66) < 1e-12
PY
fi

# bad input: exit code 2, and a message that names the option and what is allowed
expect 2
says err "dualpipe_plan: error: a command is missing"
expect 2 plan
says err "unknown command 'plan': expected one of schedule, simulate"
expect 2 schedule --schedule pipe --ranks 4 --micro-batches 8
says err "--schedule 'pipe': expected one of gpipe, 1f1b"
expect 2 schedule --ranks 4 --micro-batches 8
says err "--schedule is missing: expected one of gpipe, 1f1b"
expect 2 schedule --schedule gpipe --micro-batches 8
says err "--ranks is missing: expected a whole number from 1 to 4096"
expect 2 schedule --schedule gpipe --ranks 4
says err "--micro-batches is missing: expected a whole number from 1 to 65536"
for ranks in 0 -1 4097 4x '' 99999999999999999999; do
    expect 2 schedule --schedule gpipe --ranks "$ranks" --micro-batches 8
    says err "--ranks '$ranks': expected a whole number from 1 to 4096"
done
expect 2 schedule --schedule dualpipe --ranks 5 --micro-batches 20
says err "it needs P even, M even, M >= 2P; nearest: 4 or 6"
expect 2 simulate --schedule gpipe --ranks 2 --micro-batches 2 --cost F=1,X=2
says err "cost 'X=2': unknown name, expected one of F, I, W, B, FB and wire"
expect 2 simulate --schedule gpipe --schedule-file "$golden/dualpipe_4ranks_8mb.csv"
says err "either --schedule or --schedule-file"
expect 2 simulate --schedule-file "$golden/dualpipe_4ranks_8mb.csv" --ranks 8
says err "--ranks 8: "
says err "holds 4 ranks"
expect 2 simulate --schedule-file "$folder/missing.csv"
says err "missing.csv: No such file or directory"
printf '0F0,0B0\n1F0,1X0\n' >"$folder/bad.csv"
expect 2 simulate --schedule-file "$folder/bad.csv"
says err "bad.csv:2:6: expected F, B, I or W, found 'X0'"
printf '0F0,0B0\n1F0\n' >"$folder/bad.csv"
expect 2 simulate --schedule-file "$folder/bad.csv"
says err "1F0 has no backward"
printf '0F0,0B0,0F1,0B1\n1F1,1B1,1F0,1B0\n' >"$folder/bad.csv"
expect 2 simulate --schedule-file "$folder/bad.csv"
says err "rank 1: 1F1 waits for rank 0 -> 1: activation of 0F1 (its input)"
expect 2 simulate --schedule gpipe --ranks 2 --micro-batches 4 --recv-slots 1
says err "receive buffer: rank 1 must first run 1B0, which frees slot 0 of 1"
expect 2 simulate --frobnicate
says err "--frobnicate"
expect 2 schedule --schedule

# failure of the machine: exit code 1
if [ -w /dev/full ]; then
    for command in "schedule" "simulate" "simulate --json"; do
        # shellcheck disable=SC2086
        "$plan" $command --schedule gpipe --ranks 2 --micro-batches 2 >/dev/full 2>"$folder/err"
        [ $? -eq 1 ] || fail "$command on a full disk does not exit with 1"
        says err "dualpipe_plan: error: "
    done
fi

[ $failures -eq 0 ] || exit 1
echo "plan_test: all passed"
