#!/usr/bin/env bash
# Checks and tests everything: installs what is missing, checks the sources, then builds and tests the normal
# build, that with the address and undefined-behaviour sanitizers and, where there are threads, that with the
# thread sanitizer. The last line is "N passed, N failed, N skipped", counted over all of it; the exit code is
# 1 where something failed. The CUDA backends on the stand-in run under sanitizers when asked for: two minutes
# more, for who changes them.
#
#     scripts/test.sh              everything but asan-standin
#     scripts/test.sh --quick      the source checks and the normal build
#     scripts/test.sh --only asan  one build alone: ci (the normal one), asan, asan-standin or tsan
set -euo pipefail
# shellcheck source=scripts/setup.sh
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

threaded_rooms=(device comm kernels runtime)
# Tests on the stand-in that are left out under sanitizers, which slow them down most: mutants and schedules run
# the same code again, as do more ranks, and the kernels' arithmetic is the same.
standin_repeats='cuda_(schedules|mutation|order|step|watchdog)_test|contract_standin_.*_[48]$'
standin_repeats+='|kernels_(stage_training|stage_equality|loss|layernorm|cuda)_test|_plain$'
passed=0
failed=0
skipped=0

usage() {
    say "usage: scripts/test.sh [--quick | --only ci|asan|asan-standin|tsan]"
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
    { sources '*.sh' && printf '.ci/run\n'; } | xargs shellcheck --severity warning -e SC2054 -x -P .
}

# What the README tells people to run must be a program.
check_programs() {
    local script status=0
    for script in scripts/*.sh bench/*.sh .ci/run; do
        if [ ! -x "$script" ]; then
            say "$script is not executable: chmod +x it"
            status=1
        fi
    done
    return "$status"
}

check_sources() {
    check 'room order' bash scripts/check-rooms.sh
    check 'scripts can be run' check_programs
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

# run_tests FOLDER [OPTIONS OF ctest ...]
run_tests() {
    local folder=$1 log status=0 before=$((passed + failed + skipped))
    shift
    log=$(mktemp)
    # Tests that measure, or whose ranks alone are more than the cores, ask to run by themselves.
    ctest --test-dir "$folder" --parallel 2 --output-on-failure "$@" 2>&1 | tee "$log" || status=$?
    count_results "$log"
    rm -f "$log"
    if [ "$before" = $((passed + failed + skipped)) ]; then
        failed=$((failed + 1))
        say "test: no test ran in $folder (ctest's exit code was $status)"
    fi
}

# test_build PRESET: builds it and runs its tests. A build that fails is one failure.
test_build() {
    local preset=$1 room targets=()
    [ "$preset" != asan-standin ] || targets=(standin_programs)
    if ! build "$preset" ${targets[@]+"${targets[@]}"}; then
        failed=$((failed + 1))
        return
    fi
    say "test: $preset"
    if [ "$preset" != ci ]; then
        export DPR_TEST_SHORT=1 # what sanitizers slow down most is cut where it only repeats
    fi
    case $preset in
    ci) run_tests "build/$preset" ;;
    # Of the programs' tests these start the same code often, and slowly.
    asan) run_tests "build/$preset" -E 'train_(timeout|loss_curves)_test' ;;
    asan-standin)
        if ctest --test-dir "build/$preset" -L standin -N | grep '^Total Tests: 0$' >/dev/null; then
            skip 'the CUDA backends under sanitizers' 'the CUDA Toolkit is not installed'
        else
            run_tests "build/$preset" -L standin -E "$standin_repeats"
        fi
        ;;
    tsan)
        for room in "${threaded_rooms[@]}"; do # in the others it finds nothing, slowly
            run_tests "build/$preset/tests/$room"
        done
        run_tests "build/$preset/tests/apps" -R 'train_(results|drawings)_test'
        ;;
    esac
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
        ci | asan | asan-standin | tsan) presets=("$2") with_checks=0 ;;
        *) usage ;;
        esac
        ;;
    *) usage ;;
    esac
    cd "$repository"
    if setup; then
        mpi_environment
        sanitizer_environment
        [ "$with_checks" = 0 ] || check_sources
        for preset in "${presets[@]}"; do
            test_build "$preset"
        done
    else
        failed=$((failed + 1))
    fi
    printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
    [ "$failed" = 0 ]
}

main "$@"
