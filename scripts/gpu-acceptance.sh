#!/usr/bin/env bash
# Acceptance on a node with GPUs: builds, runs the tests that are labelled cuda on the real device, checks the
# kernels with compute-sanitizer where it is installed, trains every schedule with every number format and
# rank count and holds it against one process, compares predictions with measurements, and runs the benchmarks.
# Everything goes to one folder, with summary.txt at its top.
#
#     scripts/gpu-acceptance.sh [-o FOLDER] [-r RANKS,...] [-b BUILD]
#
#     -o FOLDER   where to write (default: gpu-acceptance-DATE)
#     -r RANKS    rank counts (default: those of 2, 4 and 8 that there are GPUs for; with one GPU 2 and 4, which
#                 share it over MPI)
#     -b BUILD    a build folder to take as it is (default: build/gpu is configured and built)
#
# Exit codes: 0 all passed, 1 something failed, 2 bad option, 77 no GPU here.
set -euo pipefail
# shellcheck source=scripts/setup.sh
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

usage() {
    sed -n '2,14s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
}

out=gpu-acceptance-$(date +%Y-%m-%d-%H%M%S)
ranks=
build=
while getopts 'o:r:b:' option; do
    case $option in
    o) out=$OPTARG ;;
    r) ranks=$OPTARG ;;
    b) build=$OPTARG ;;
    *) usage ;;
    esac
done
shift $((OPTIND - 1))
[ $# = 0 ] || usage
if [ -n "$ranks" ] && [[ ! $ranks =~ ^[1-9][0-9]*(,[1-9][0-9]*)*$ ]]; then
    say "-r '$ranks': expected numbers of ranks with commas between them, such as 2,4,8"
    exit 2
fi

if ! command -v nvidia-smi >/dev/null; then
    say "gpu-acceptance: no nvidia-smi here, so no NVIDIA driver: nothing can be accepted on this machine"
    exit 77
fi
gpus=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU') || true
if [ "$gpus" = 0 ]; then
    say "gpu-acceptance: the driver finds no GPU: nothing can be accepted on this machine"
    exit 77
fi

longest_sec=1800 # of one part
passed=0
failed=0
skipped=0
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$repository"
: >"$out/summary.txt"

note() { # note RESULT WHAT [WHY]
    printf '%-8s %s%s\n' "$1" "$2" "${3:+: $3}" | tee -a "$out/summary.txt"
}

# part WHAT FILE COMMAND...: its output into FILE; counts it.
part() {
    local what=$1 file=$out/$2 status=0
    shift 2
    "$@" >"$file" 2>&1 </dev/null || status=$?
    if [ "$status" = 0 ]; then
        passed=$((passed + 1))
        note passed "$what"
    else
        failed=$((failed + 1))
        note FAILED "$what" "exit code $status, see ${file#"$out"/}"
    fi
}

skip() { # skip WHAT WHY
    skipped=$((skipped + 1))
    note skipped "$1" "$2"
}

facts() {
    date
    uname -a
    nvidia-smi
    nvidia-smi topo -m || true
    lscpu
    mpirun --version
    nvcc --version || true
    git -C "$repository" log -1 --oneline || true
}

build_all() {
    cmake -S "$repository" -B "$build" -DCMAKE_BUILD_TYPE=Release -DDPR_CUDA=ON -DDPR_WERROR=ON &&
        cmake --build "$build" --parallel "$(nproc)"
}

# ---- Kernels under compute-sanitizer ----

sanitize() {
    local tool test
    if ! command -v compute-sanitizer >/dev/null; then
        skip 'compute-sanitizer' 'not installed'
        return
    fi
    for tool in memcheck racecheck initcheck synccheck; do
        for test in linear layernorm loss optimizer; do
            part "compute-sanitizer $tool, $test" "sanitizer-$tool-$test.txt" \
                timeout "$longest_sec" compute-sanitizer --tool "$tool" --error-exitcode 1 \
                "$build/tests/kernels/kernels_${test}_test" cuda
        done
    done
}

# ---- Training ----

launch() { # launch P COMMAND...
    timeout "$longest_sec" mpirun --oversubscribe --bind-to none -np "$@"
}

comm_of() { # comm_of P: ranks that share a GPU cannot use NCCL
    if [ "$1" -le "$gpus" ]; then echo nccl; else echo mpi; fi
}

# Losses and gradients of 3 steps against one process, and the same bits when it runs again.
verify() { # verify P SCHEDULE DTYPE OPTIONS...
    local p=$1 schedule=$2 dtype=$3 name
    shift 3
    name="$schedule-$dtype-$p$(printf '%s' "$*" | tr -c 'a-z\n' '-')"
    part "train $schedule, $dtype, $p ranks${*:+ $*}" "train-$name.txt" \
        launch "$p" "$build/apps/dualpipe_train" --device cuda --comm "$(comm_of "$p")" --data synthetic \
        --schedule "$schedule" --dtype "$dtype" --steps 3 --verify --report "$out/train-$name.json" "$@"
}

train_matrix() {
    local p schedule dtype
    for p in ${ranks//,/ }; do
        for schedule in gpipe 1f1b interleaved-1f1b zb1p zb2p zbv v-half v-min chimera dualpipe dualpipev; do
            for dtype in fp32 tf32 bf16; do
                verify "$p" "$schedule" "$dtype"
            done
        done
        [ "$(comm_of "$p")" = mpi ] || verify "$p" dualpipe bf16 --cuda-graph
    done
}

# ---- Prediction and benchmarks ----

predict() {
    local p dtype
    for p in ${ranks//,/ }; do
        for dtype in fp32 bf16; do
            part "predict dualpipev, $dtype, $p ranks" "predict-$dtype-$p.txt" \
                launch "$p" "$build/apps/dualpipe_train" --device cuda --comm "$(comm_of "$p")" --data synthetic \
                --schedule dualpipev --dtype "$dtype" --hidden 4096 --ffn 16384 --micro-batch-size 512 --steps 60 \
                --details --report "$out/predict-$dtype-$p.json" --html "$out/predict-$dtype-$p.html" \
                --trace "$out/predict-$dtype-$p.trace.json"
        done
    done
}

benchmark() {
    local p command
    for p in ${ranks//,/ }; do
        for command in gemm p2p overlap scheduler step referee; do
            part "bench $command, $p ranks" "bench-$command-$p.txt" \
                launch "$p" "$build/apps/dualpipe_bench" "$command" --device cuda --json "$out/bench-$command-$p.json"
        done
    done
}

# ---- The whole ----

mpi_environment
if [ -z "$ranks" ]; then
    for p in 2 4 8; do
        [ "$p" -gt "$gpus" ] || ranks=${ranks:+$ranks,}$p
    done
    ranks=${ranks:-2,4}
fi
note facts "$gpus GPUs: $(nvidia-smi -L | sed 's/ (UUID.*//' | paste -sd ';')"
facts >"$out/machine.txt" 2>&1 || true
if [ -z "$build" ]; then
    build=$repository/build/gpu
    setup
    part 'build' build.txt build_all
    if [ "$failed" != 0 ]; then
        exit 1
    fi
else
    build=$(cd "$build" && pwd)
fi
part 'tests labelled cuda' tests.txt ctest --test-dir "$build" -L '^cuda$' --output-on-failure --no-tests=error
sanitize
train_matrix
predict
benchmark
note total "$passed passed, $failed failed, $skipped skipped; all of it in $out"
[ "$failed" = 0 ]
