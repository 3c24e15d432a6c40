#!/usr/bin/env bash
# make-man.sh PROGRAM SUMMARY > PROGRAM.1: a man page from the program's own --help, so that both are
# one text. A program that lists commands in its --help gets a section for each of them.
set -euo pipefail

program=$1
summary=$2
name=$(basename "$program")
version=$("$program" --version | head -n 1 | awk '{print $NF}')

# Text as it stands, for a block in which roff keeps the lines.
escape() {
    sed -e 's/[[:space:]]*$//' -e 's/\\/\\e/g' -e 's/-/\\-/g' -e "s/^\([.']\)/\\\\\&\1/"
}

block() {
    printf '.nf\n'
    escape
    printf '.fi\n'
}

# The first line of --help says how to call it.
usage_of() {
    sed -n '1s/^Usage: //p'
}

help=$("$program" --help)
commands=$(sed -n '/^Commands/,/^$/p' <<<"$help" | awk '/^  [a-z]/ {print $1}')

printf '.TH %s 1 "" "%s %s" "DualPipe runtime"\n' "${name^^}" "$name" "$version" | sed 's/-/\\-/g'
printf '.SH NAME\n%s \\- %s\n' "$name" "$summary"
printf '.SH SYNOPSIS\n'
usage_of <<<"$help" | escape
printf '.SH DESCRIPTION\n'
sed 1d <<<"$help" | block
for command in $commands; do
    text=$("$program" "$command" --help)
    printf '.SH COMMAND %s\n' "${command^^}"
    usage_of <<<"$text" | block
    sed 1d <<<"$text" | block
done
