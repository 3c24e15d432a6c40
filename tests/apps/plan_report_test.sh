#!/usr/bin/env bash
# plan_report_test.sh PLAN: saved runs, drawn, explained and compared from the command line.
set -u

plan=$(realpath "$1")
failed=0
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1

fail() {
    echo "FAILED: $*"
    failed=1
}

# expect CODE PART ARGUMENT...: the exit code, and a part of what is printed to either stream.
expect() {
    local want=$1 part=$2 out code
    shift 2
    out=$("$plan" "$@" 2>&1 </dev/null)
    code=$?
    [[ $code == "$want" ]] || fail "$*: exit code $code, expected $want: $out"
    [[ $out == *"$part"* ]] || fail "$*: '$part' is missing in: $out"
}

simulate() {
    expect 0 makespan simulate --ranks 2 --micro-batches 3 --cost F=1,B=2,wire=0.25 "$@"
}

simulate --schedule 1f1b --straggler 1=1.5 --save a.json --html a.html --trace a.trace
simulate --schedule gpipe --save b.json
[[ -s a.json && -s a.html && -s a.trace ]] || fail "a file is missing"

# A saved run says what the simulation said, and draws the same page and the same trace.
expect 0 "step predicted                 17" report a.json
expect 0 "bubble predicted               33.82 %" report a.json
expect 0 "   0       8  47.06 %     0      0        4.25          3  0.75       0     0" report a.json
expect 0 "rank 0 -> 1: activation of 0F0" report a.json
"$plan" report a.json --html again.html --trace again.trace >/dev/null || fail "drawing again"
cmp -s a.html again.html || fail "the page of the saved run differs"
grep -q '"name":"predicted: rank 1"' again.trace || fail "the trace has no label"
[[ $(wc -l <a.trace) == "$(wc -l <again.trace)" ]] || fail "the trace of the saved run differs"
drawing() {
    "$plan" "$@" --ascii=80 | grep '^rank *[0-9]* |'
}
[[ $(drawing report a.json) == "$(drawing simulate --schedule 1f1b --ranks 2 --micro-batches 3 \
    --cost F=1,B=2,wire=0.25 --straggler 1=1.5)" ]] || fail "the drawing of the saved run differs"

# Two are compared: 1f1b takes 17 there; gpipe without the straggler 12.5.
expect 0 "step predicted            17  12.5   -4.5  -26.47 %" report a.json b.json
expect 0 "straggler" report a.json b.json
expect 0 '"format": "dualpipe-plan-comparison"' report a.json b.json --json
expect 0 '"format": "dualpipe-plan-report"' report a.json --json
expect 0 "rank,bubble,bubble_ratio,fill,drain" report a.json --csv
expect 0 "b.json, predicted" report a.json b.json --ascii=80

# Bad input: what, where, and what was expected.
expect 2 "a saved run is missing" report
expect 2 "'b.json': expected one saved run, or two" report a.json a.json b.json
expect 2 "cannot open none.json" report none.json
expect 2 "--html draws one run, 2 were given" report a.json b.json --html x.html
expect 2 "--ascii draws text" report a.json --ascii --json
expect 2 "--ascii '5': expected a whole number from 40 to 10000" report a.json --ascii=5
expect 2 "a.trace:" report a.trace
sed 's/"version":1/"version":7/' a.json >new.json
expect 2 "new.json:2: version: saved run of version 7, expected 1" report new.json
head -c 300 a.json >cut.json
expect 2 "cut.json:" report cut.json
expect 2 "cannot write the page to /nonexistent/x.html" report a.json --html /nonexistent/x.html
exit $failed
