#!/usr/bin/env bash
# plan_docs_test.sh PROGRAM DOC...: runs the worked examples of documents and compares what they print.
#
# A block fenced with ```console holds commands, "$ dualpipe_plan ...", each followed by its output,
# standard error included. Commands of one document run in one empty folder, in order. With UPDATE=1
# the blocks are rewritten instead.
set -u

program=$(realpath "$1")
shift
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
ln -s "$program" "$tools/dualpipe_plan"
export PATH="$tools:$PATH"
failed=0
commands=0

# Reads a document, writes it with the outputs that the commands really have.
rerun() {
    local line inside=no shown=no
    while IFS= read -r line || [[ $line ]]; do
        if [[ $inside == no ]]; then
            printf '%s\n' "$line"
            [[ $line == '```console' ]] && inside=yes shown=no
        elif [[ $line == '```' ]]; then
            printf '%s\n' "$line"
            inside=no
        elif [[ $line == '$ '* ]]; then
            [[ $shown == yes ]] && printf '\n'
            printf '%s\n' "$line"
            local command=${line#'$ '}
            while [[ $command == *\\ ]]; do
                IFS= read -r line
                printf '%s\n' "$line"
                command=${command%\\}$line
            done
            (cd "$folder" && eval "$command" 2>&1 </dev/null) | sed 's/[[:space:]]*$//'
            shown=yes
            echo >>"$tools/count"
        fi
    done
}

for doc in "$@"; do
    folder=$(mktemp -d -p "$tools")
    rerun <"$doc" >"$tools/rerun.md"
    if [[ ${UPDATE:-} ]]; then
        cp "$tools/rerun.md" "$doc"
    elif ! diff -u --label "$doc" --label "what the commands print" "$doc" "$tools/rerun.md"; then
        failed=1
    fi
done
commands=$(wc -l <"$tools/count" 2>/dev/null || echo 0)
if ((commands == 0)); then
    echo "no examples found in: $*"
    failed=1
fi
echo "$commands examples"
exit $failed
