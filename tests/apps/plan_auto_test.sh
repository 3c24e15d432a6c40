#!/usr/bin/env bash
# dualpipe_plan auto from the outside. Usage: plan_auto_test.sh DUALPIPE_PLAN
set -u
plan=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failures=0

fail() {
    printf 'FAILED: %s\n' "$1" >&2
    failures=$((failures + 1))
}

# expect CODE ARGUMENTS...: output and errors go to $folder/out and $folder/err
expect() {
    local code=$1
    shift
    "$plan" auto "$@" >"$folder/out" 2>"$folder/err"
    local got=$?
    [ $got -eq "$code" ] || fail "'$*' exits with $got, not $code: $(cat "$folder/err")"
    if [ "$code" -ne 0 ] && [ -s "$folder/out" ]; then
        fail "'$*' fails but prints to standard output"
    fi
}

says() {
    grep -qE -- "$2" "$folder/$1" || fail "expected '$2' in: $(cat "$folder/$1")"
}

# refuse TEXT ARGUMENTS...: exit code 2, and a message that holds the text
refuse() {
    local text=$1
    shift
    expect 2 "$@"
    says err "$text"
}

size=(--ranks 4 --micro-batches 8)

# the report; zbv is at the bound, which is 24 of work and (P-1)F/2
expect 0 "${size[@]}" --placement v --iterations 100
says out '^placement +v$'
says out '^activation limit \(sets of a stage\) +10$'
says out '^peak activations \(sets of a stage\) +[0-9]+$'
says out '^makespan +25.5$'
says out '^lower bound +25.5$'
says out '^schedule +placement +within limit +activations \(1/P of the model\) '
says out '^dualpipe +bidirectional +yes +5 +26 +2 +0.5 +1.92 %$'
says out '^zbv +v +yes +4 +25.5 +1.5 +0 +0.00 %$'
says out '^interleaved-1f1b +other +no '

# any placement, which is the default: not worse than any fixed schedule within the limit
expect 0 "${size[@]}" --cost F=1,I=1,W=1,B=1.5,FB=2 --iterations 300
says out '^placement +bidirectional$'
says out '^program +dualpipe$'
says out '^makespan +21$'
says out '^dualpipe +bidirectional +yes +5 +21 +1.25 +0 +0.00 %$'
cp "$folder/out" "$folder/default"
expect 0 "${size[@]}" --placement any --cost F=1,I=1,W=1,B=1.5,FB=2 --iterations 300
diff <(grep -v ^seconds "$folder/default") <(grep -v ^seconds "$folder/out") >"$folder/diff" ||
    fail "--placement any is not the default: $(cat "$folder/diff")"

# at V's turn nothing is sent, so the bound has no wire there
expect 0 --ranks 1 --micro-batches 1 --placement v --cost wire=5 --iterations 100
says out '^makespan +3$'
says out '^lower bound +3$'
expect 0 --ranks 2 --micro-batches 2 --placement v --cost F=0.75,I=1.85,W=0.17,wire=0.1 \
    --iterations 3000
says out '^makespan +7.535$'
says out '^lower bound +7.535$'

# the help ends its last line
[ -z "$("$plan" auto --help | tail -c 1)" ] || fail "--help does not end its last line"

# the program in the file is the one of the report
expect 0 "${size[@]}" --placement bidirectional --cost F=1,I=1.2,W=0.8,wire=0.1 --iterations 2000 \
    --csv "$folder/plan.csv" --json
says out '"format": "dualpipe-plan-auto"'
makespan=$(sed -nE 's/^  "makespan": ([0-9.]+).*/\1/p' "$folder/out" | head -1)
"$plan" simulate --schedule-file "$folder/plan.csv" --cost F=1,I=1.2,W=0.8,wire=0.1 >"$folder/sim"
played=$(sed -nE 's/^makespan +//p' "$folder/sim")
awk -v a="$makespan" -v b="$played" 'BEGIN { exit !(a > 0 && a - b < 1e-4 && b - a < 1e-4) }' ||
    fail "the report says $makespan, its file takes $played"
"$plan" verify "$folder/plan.csv" >"$folder/out" || fail "the written program does not verify"

# the same request gives the same program
expect 0 "${size[@]}" --cost wire=0.3 --iterations 500 --seed 7 --csv "$folder/a.csv"
expect 0 "${size[@]}" --cost wire=0.3 --iterations 500 --seed 7 --csv "$folder/b.csv"
cmp -s "$folder/a.csv" "$folder/b.csv" || fail "the same seed gives another program"

# what is refused, with the option and its range
refuse '--ranks is missing.*1 to 256' --micro-batches 8
refuse '--micro-batches is missing' --ranks 4
refuse "--ranks '257'.*1 to 256" --ranks 257 --micro-batches 8
refuse "--ranks '-1'" --ranks -1 --micro-batches 8
refuse "--micro-batches '0'" --ranks 4 --micro-batches 0
refuse '--activations 1: placement v needs at least 2' "${size[@]}" --placement v --activations 1
refuse "--activations '0'" "${size[@]}" --activations 0
refuse "--placement 'w'.*any, v, one-to-one, bidirectional" "${size[@]}" --placement w
refuse 'both must be even' --ranks 3 --micro-batches 8 --placement bidirectional
refuse "--budget 'nan'.*0 to 3600" "${size[@]}" --budget nan
refuse "--budget '-1'" "${size[@]}" --budget=-1
refuse "--iterations '0'" "${size[@]}" --iterations 0
refuse "--seed 'x'" "${size[@]}" --seed x
refuse "cost 'F=nan'" "${size[@]}" --cost F=nan
refuse 'at most 1e300' "${size[@]}" --cost F=1e307 --iterations 1
refuse 'at most 512 micro-batches' --ranks 256 --micro-batches 513 --placement v
refuse 'at most 1024 micro-batches' --ranks 256 --micro-batches 1025
refuse '--csv .*no-such-folder' "${size[@]}" --iterations 1 --csv "$folder/no-such-folder/x.csv"

if [ $failures -gt 0 ]; then
    printf '%d checks failed\n' $failures >&2
    exit 1
fi
