# shellcheck shell=bash
# Sourced by the tests that launch ranks: run() with a launcher that works as root, in a container and with
# fewer cores than ranks; expect() to judge what it did.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none
export OMPI_MCA_btl_vader_single_copy_mechanism=none

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failures=0

# run SECONDS COMMAND...: standard output and error into $scratch/out and err, the exit code into $code.
run() {
    local limit=$1
    shift
    code=0
    timeout "$limit" "$@" </dev/null >"$scratch/out" 2>"$scratch/err" || code=$?
}

fail() {
    printf 'FAILED %s\n' "$*"
    sed 's/^/    out: /' "$scratch/out" | tail -20
    sed 's/^/    err: /' "$scratch/err" | tail -20
    failures=$((failures + 1))
}

# expect CODE TEXT WHAT: the last run ended with CODE and said TEXT (an extended regular expression).
expect() {
    if [ "$code" != "$1" ]; then
        fail "$3: exit code $code, expected $1"
    elif [ -n "$2" ] && ! grep -qE -- "$2" "$scratch/out" "$scratch/err"; then
        fail "$3: does not say /$2/"
    else
        printf 'ok %s\n' "$3"
    fi
}

# expect_once TEXT WHAT: one line of the last run's output holds TEXT, so one rank said it.
expect_once() {
    local count
    count=$(cat "$scratch/out" "$scratch/err" | grep -cE -- "$1") || true
    if [ "$count" != 1 ]; then
        fail "$2: /$1/ stands on $count lines, expected 1"
    else
        printf 'ok %s\n' "$2"
    fi
}

finish() {
    [ "$failures" = 0 ] || exit 1
}
