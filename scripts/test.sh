#!/usr/bin/env bash
# Checks and tests everything: installs what is missing, checks the sources, then builds and tests the normal
# build and those with the address (and undefined behaviour) and the thread sanitizer. The last line is
# "N passed, N failed, N skipped", counted over all of it; the exit code is 1 where something failed.
#
#     scripts/test.sh              everything
#     scripts/test.sh --quick      the source checks and the normal build
#     scripts/test.sh --only asan  one build alone: ci (the normal one), asan or tsan
set -euo pipefail
# shellcheck source=scripts/setup.sh
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

passed=0
failed=0
skipped=0

usage() {
    say "usage: scripts/test.sh [--quick | --only ci|asan|tsan]"
    exit 2
}

# check NAME COMMAND...: a check that counts as one test.
check() {
    local name=$1
    shift
    if "$@"; then
        passed=$((passed + 1))
        say "check: $name passed"
    else
        failed=$((failed + 1))
        say "check: $name FAILED"
    fi
}

skip() { # skip NAME WHY
    skipped=$((skipped + 1))
    say "check: $1 skipped: $2"
}

sources() { # sources PATTERN...: the files of these names, one a line
    local pattern match=()
    for pattern in "$@"; do
        match+=(-o -name "$pattern")
    done
    find . \( -name .git -o -path ./build -o -path ./shared -o -path ./.venv \) -prune -o -type f \
        \( "${match[@]:1}" \) -print | sort
}

check_format() {
    sources '*.c' '*.h' '*.cu' | xargs clang-format --dry-run --Werror
}

check_shell() {
    { sources '*.sh' && printf '.ci/run\n'; } | xargs shellcheck --severity warning -x -P .
}

check_sources() {
    check 'room order' bash scripts/check-rooms.sh
    # Each major version formats a little differently; Debian 12's is the one that counts.
    if [[ $(clang-format --version 2>/dev/null) == *"version 14."* ]]; then
        check 'format' check_format
    else
        skip 'format' 'clang-format 14 is not installed'
    fi
    if command -v shellcheck >/dev/null; then
        check 'shell scripts' check_shell
    else
        skip 'shell scripts' 'shellcheck is not installed'
    fi
}

# Adds up one ctest log: a line per test, "Passed", or "***" and why not.
count_results() {
    local log=$1 ran not_run
    ran=$(grep -cE '^ *[0-9]+/[0-9]+ Test +#[0-9]+:.* Passed ' "$log") || true
    not_run=$(grep -cE '^ *[0-9]+/[0-9]+ Test +#[0-9]+:.*\*\*\*(Skipped|Not Run \(Disabled\))' "$log") || true
    passed=$((passed + ran))
    skipped=$((skipped + not_run))
    failed=$((failed + $(grep -cE '^ *[0-9]+/[0-9]+ Test +#[0-9]+:' "$log" || true) - ran - not_run))
}

# test_build PRESET: builds it and runs its tests. A build or a ctest that fails as such is one failure.
test_build() {
    local preset=$1 log status=0 before=$((passed + failed + skipped))
    if ! build "$preset"; then
        failed=$((failed + 1))
        return
    fi
    log=$(mktemp)
    say "test: $preset"
    ctest --preset "$preset" --parallel "$(nproc)" 2>&1 | tee "$log" || status=$?
    count_results "$log"
    if [ "$before" = $((passed + failed + skipped)) ]; then
        failed=$((failed + 1))
        say "test: $preset ran no test (ctest's exit code was $status)"
    fi
    rm -f "$log"
}

# What the sanitizers need to know of Open MPI, which is not built with them.
sanitizer_environment() {
    local folder=$repository/tests
    export ASAN_OPTIONS=fast_unwind_on_malloc=0
    export LSAN_OPTIONS=suppressions=$folder/lsan.supp:print_suppressions=0
    export TSAN_OPTIONS=suppressions=$folder/tsan.supp
}

main() {
    local presets=(ci asan tsan) with_checks=1 preset
    case ${1-} in
    '') ;;
    --quick) presets=(ci) ;;
    --only)
        case ${2-} in
        ci | asan | tsan) presets=("$2") with_checks=0 ;;
        *) usage ;;
        esac
        ;;
    *) usage ;;
    esac
    setup
    cd "$repository"
    mpi_environment
    sanitizer_environment
    [ "$with_checks" = 0 ] || check_sources
    for preset in "${presets[@]}"; do
        test_build "$preset"
    done
    printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
    [ "$failed" = 0 ]
}

main "$@"
