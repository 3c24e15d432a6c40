#!/usr/bin/env bash
# plan_man_test.sh MAKE_MAN PROGRAM SUMMARY: the page formats without a warning and says what --help says.
set -u

make_man=$1
program=$2
summary=$3
failed=0
page=$(mktemp)
trap 'rm -f "$page"' EXIT

fail() {
    echo "FAILED: $*"
    failed=1
}

bash "$make_man" "$program" "$summary" >"$page" || fail "make-man.sh"
if ! command -v man >/dev/null; then
    echo "man is not installed"
    exit 77
fi
warnings=$(MANWIDTH=100 LC_ALL=C.UTF-8 man --warnings -l "$page" 2>&1 >/dev/null)
[[ -z $warnings ]] || fail "the page has warnings: $warnings"
text=$(MANWIDTH=100 LC_ALL=C.UTF-8 man -l "$page" 2>/dev/null | sed 's/^ *//')
[[ $text == *"$summary"* ]] || fail "the summary is missing"

# Every line of every --help is a line of the page.
check_help() {
    local line
    while IFS= read -r line; do
        line=$(sed 's/^ *//; s/ *$//; s/^Usage: //' <<<"$line")
        [[ -z $line ]] || grep -qxF -- "$line" <<<"$text" || fail "not in the page: $line"
    done < <("$@" --help)
}

check_help "$program"
for command in $("$program" --help | sed -n '/^Commands/,/^$/p' | awk '/^  [a-z]/ {print $1}'); do
    check_help "$program" "$command"
done
exit $failed
