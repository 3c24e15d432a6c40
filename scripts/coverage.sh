#!/usr/bin/env bash
# Line coverage of the CUDA backends by the tests that run under the stand-in: builds with gcov's counters, runs
# the tests labelled standin, and prints the share of lines that were run, file by file. Needs the CUDA Toolkit,
# no GPU.
#
#     scripts/coverage.sh [LEAST]    exit code 1 where a folder has less than LEAST percent (default 90)
set -euo pipefail
# shellcheck source=scripts/setup.sh
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
least=${1:-90}
build=$repository/build/coverage
folders=(device/cuda kernels/cuda comm/nccl)

cd "$repository"
mpi_environment
cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=Debug -DDPR_CUDA=ON \
    -DCMAKE_C_FLAGS='--coverage -fprofile-update=atomic -O1' \
    -DCMAKE_CXX_FLAGS='--coverage -fprofile-update=atomic -O1' >/dev/null
cmake --build "$build" --parallel "$(nproc)" >/dev/null
find "$build" -name '*.gcda' -delete
DPR_TEST_SHORT=1 ctest --test-dir "$build" -L standin --output-on-failure >"$build/tests.txt" 2>&1 || {
    tail -40 "$build/tests.txt" >&2
    say 'coverage: a test failed'
    exit 1
}

# gcov's JSON lines of every object whose source stands in one of the folders; a line counts as run where any
# object ran it.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
find "$build" -name '*.gcda' | sort >"$scratch/counters"
(cd "$scratch" && xargs -r gcov --stdout --preserve-paths <counters) 2>/dev/null >"$scratch/lines" || true
awk -v root="$repository/" -v least="$least" -v wanted="${folders[*]}" '
    BEGIN { count = split(wanted, folder, " ") }
    / 0:Source:/ { source = $0; sub(/.*:Source:/, "", source); sub(root, "", source); next }
    {
        split($0, part, ":")
        runs = part[1]; line = part[2] + 0
        gsub(/[ *]/, "", runs)
        if (line == 0 || runs == "-") next
        key = source SUBSEP line
        if (!(key in seen)) { seen[key] = 0; lines[source]++ }
        if (runs !~ /^[#=]+$/ && !seen[key]) { seen[key] = 1; ran[source]++ }
    }
    END {
        for (i = 1; i <= count; i++) {
            total = good = 0
            for (s in lines)
                if (index(s, folder[i] "/") == 1) {
                    printf "%6.1f %%  %4d of %4d  %s\n", 100 * ran[s] / lines[s], ran[s], lines[s], s | "sort -k5"
                    total += lines[s]; good += ran[s]
                }
            close("sort -k5")
            share = total > 0 ? 100 * good / total : 0
            printf "%6.1f %%  %4d of %4d  %s\n\n", share, good, total, folder[i] " together"
            bad += share < least
        }
        exit bad > 0
    }' "$scratch/lines"
