#!/usr/bin/env bash
# Line coverage of the CUDA backends by the tests that run under the stand-in: builds those tests with gcov's
# counters, runs them, and prints the share of lines that were run, by file and by folder. Needs the CUDA
# Toolkit, no GPU.
#
#     scripts/coverage.sh [LEAST]    exit code 1 where a folder has less than LEAST percent (default 90)
#
# A line counts as run where any instance of its function ran it. Tests that run the same code over and over (the
# mutants, every schedule, many ranks) are not among them, nor is a check of symbols, among which gcov has its own.
set -euo pipefail
# shellcheck source=scripts/setup.sh
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
least=${1:-90}
if ! [[ $least =~ ^[0-9]{1,3}$ ]] || [ "$least" -gt 100 ]; then
    say "usage: scripts/coverage.sh [LEAST], a percentage from 0 to 100, not '$least'"
    exit 2
fi
build=$repository/build/coverage
folders=(device/cuda kernels/cuda comm/nccl)
tests=(-L standin -E 'cuda_(mutation|order|schedules)_test|comm_contract_standin_.*_[48]$|shared_memory_is_poisoned')
flags='--coverage -fprofile-update=atomic -O1'

# quietly WHAT COMMAND...: its output is shown where it fails.
quietly() {
    local what=$1 log=$build/$1.txt
    shift
    "$@" >"$log" 2>&1 || {
        tail -60 "$log" >&2
        say "coverage: $what failed"
        exit 1
    }
}

# gcov's listing of every object whose source stands in a folder "cuda" or "nccl".
listing() {
    local scratch
    scratch=$(mktemp -d)
    find "$build" \( -path '*/cuda/*' -o -path '*/nccl/*' \) -name '*.gcda' | sort |
        (cd "$scratch" && xargs -r gcov --stdout --preserve-paths 2>/dev/null)
    rm -rf "$scratch"
}

# A line of a listing is "runs: number: text"; runs is "-" where there is no code, "#####" or "=====" where it
# was not run.
summary() {
    awk -F: -v root="$repository/" -v least="$least" -v wanted="${folders[*]}" '
        function show(ran, lines, name) {
            printf("%6.1f %%  %4d of %4d  %s\n", (lines > 0 ? 100 * ran / lines : 0), ran, lines, name)
        }
        $2 == "    0" && $3 == "Source" {
            source = $0
            sub(/.*:Source:/, "", source)
            sub(root, "", source)
            next
        }
        $2 + 0 > 0 {
            runs = $1
            gsub(/[ *]/, "", runs)
            if (runs == "-")
                next
            key = source SUBSEP $2 + 0
            if (!(key in seen)) {
                seen[key] = 0
                if (!lines[source]++)
                    sources[++count] = source
            }
            if (runs !~ /^[#=]+$/ && !seen[key]) {
                seen[key] = 1
                ran[source]++
            }
        }
        END {
            for (folders = split(wanted, folder, " "); ++i <= folders;) {
                total = good = 0
                for (j = 1; j <= count; j++)
                    if (index(sources[j], folder[i] "/") == 1) {
                        show(ran[sources[j]], lines[sources[j]], sources[j])
                        total += lines[sources[j]]
                        good += ran[sources[j]]
                    }
                show(good, total, folder[i] " together")
                print ""
                bad += total == 0 || 100 * good < least * total
            }
            exit bad > 0
        }'
}

cd "$repository"
mpi_environment
mkdir -p "$build"
# The kernels for one GPU alone: what is counted is compiled for the CPU.
quietly configure cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=Debug -DDPR_CUDA=ON \
    -DCMAKE_CUDA_ARCHITECTURES=80-real "-DCMAKE_C_FLAGS=$flags" "-DCMAKE_CXX_FLAGS=$flags"
quietly build cmake --build "$build" --parallel "$(nproc)" --target standin_programs
find "$build" -name '*.gcda' -delete
export DPR_TEST_SHORT=1
quietly tests ctest --test-dir "$build" "${tests[@]}" --parallel 2 --output-on-failure
listing | summary
