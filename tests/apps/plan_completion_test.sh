#!/usr/bin/env bash
# plan_completion_test.sh COMPLETION PLAN [TRAIN]: what bash offers is what the programs have.
set -u

completion=$1
plan=$2
train=${3:-}
failed=0

fail() {
    echo "FAILED: $*"
    failed=1
}

# shellcheck source=/dev/null
source "$completion"

# Completes the words of a command line; the last one is being typed.
offered() {
    COMP_WORDS=("$@")
    COMP_CWORD=$(($# - 1))
    COMPREPLY=()
    "$function"
    printf '%s\n' "${COMPREPLY[@]}"
}

expect() {
    local want=$1
    shift
    local got
    got=$(offered "$@" | sort | tr '\n' ' ')
    [[ $got == "$want " ]] || fail "$*: offered '$got', expected '$want'"
}

# Every long option that --help names, found in another way than the completion does, is offered.
expect_all_options() {
    local got option
    got=$(offered "$@" --)
    for option in $("$@" --help | tr ' ,=[' '\n' | grep -E '^--[a-z]' | sort -u); do
        option=${option%%[^a-z0-9-]*}
        grep -qx -- "$option" <<<"$got" || fail "$*: $option is not offered"
    done
}

function=_dualpipe_plan
expect "comm compare" "$plan" com
expect "verify" "$plan" v
expect "--micro-batches" "$plan" bubbles --mic
expect "dualpipe dualpipev" "$plan" compare --schedule dual
expect "1f1b,dualpipe 1f1b,dualpipev" "$plan" compare --schedule 1f1b,dual
expect "dualpipe dualpipev" "$plan" schedule --schedule = dual
expect "bf16" "$plan" memory --dtype b
expect "mlp" "$plan" memory --model m
expect "b200" "$plan" throughput --hardware b
expect "tf32" "$plan" throughput --precision t
expect "ranks replicas" "$plan" scaling --axis r
expect "strong weak" "$plan" scaling --mode ''
expect "bidirectional" "$plan" auto --placement b
commands=$("$plan" --help | sed -n '/^Commands/,/^$/p' | awk '/^  [a-z]/ {print $1}')
[[ $(wc -w <<<"$commands") -ge 5 ]] || fail "no commands found in --help"
for command in $commands; do
    [[ $(offered "$plan" "$command") == *"$command"* ]] || fail "$command is not offered"
    expect_all_options "$plan" "$command"
done

if [[ $train ]]; then
    function=_dualpipe_train
    expect "--clock" "$train" --clo
    expect "adamw" "$train" --optimizer a
    expect_all_options "$train"
fi
exit $failed
