#!/usr/bin/env bash
# Acceptance on a node with GPUs: builds, runs the tests that are labelled cuda on the real device, checks the
# kernels with compute-sanitizer where it is installed, trains every schedule with every number format and
# rank count, twice, holds it against one process and the second time against the first, compares predictions
# with measurements, and runs the benchmarks. Everything goes to one folder, with summary.txt at its top.
#
#     scripts/gpu-acceptance.sh [-o FOLDER] [-r RANKS,...] [-b BUILD] [-e PERCENT] [-t SECONDS]
#
#     -o FOLDER   where to write (default: gpu-acceptance-DATE)
#     -r RANKS    rank counts (default: those of 2, 4 and 8 that there are GPUs for; with one GPU 2 and 4, which
#                 share it over MPI)
#     -b BUILD    a build folder to take as it is (default: build/gpu is configured and built)
#     -e PERCENT  by how much a predicted step may be longer or shorter than the measured one (default: 10)
#     -t SECONDS  when a training, a benchmark or a run of compute-sanitizer counts as hanging and is ended
#                 (default: 1800); the tests have limits of their own
#
# GPUs are those that CUDA_VISIBLE_DEVICES leaves. Exit codes: 0 all passed, 1 something failed, 2 bad option,
# 77 no GPU here.
set -euo pipefail
# shellcheck source=scripts/setup.sh
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

usage() {
    sed -n '2,18s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
}

out=gpu-acceptance-$(date +%Y-%m-%d-%H%M%S)
ranks=
build=
most_error_percent=10
longest_sec=1800
while getopts 'o:r:b:e:t:' option; do
    case $option in
    o) out=$OPTARG ;;
    r) ranks=$OPTARG ;;
    b) build=$OPTARG ;;
    e) most_error_percent=$OPTARG ;;
    t) longest_sec=$OPTARG ;;
    *) usage ;;
    esac
done
shift $((OPTIND - 1))
[ $# = 0 ] || usage
if [ -n "$ranks" ] && [[ ! $ranks =~ ^[1-9][0-9]*(,[1-9][0-9]*)*$ ]]; then
    say "-r '$ranks': expected numbers of ranks with commas between them, such as 2,4,8"
    exit 2
fi
if [[ ! $most_error_percent =~ ^[0-9]{1,3}(\.[0-9]+)?$ ]]; then
    say "-e '$most_error_percent': expected percent from 0 to 999, such as 7.5"
    exit 2
fi
if [[ ! $longest_sec =~ ^[1-9][0-9]{0,5}$ ]]; then
    say "-t '$longest_sec': expected whole seconds from 1 to 999999"
    exit 2
fi
if [ -n "$build" ] && [ ! -d "$build" ]; then
    say "-b '$build': no such folder; expected one that is configured and built, with the tests"
    exit 2
fi

# visible_gpus LIST: how many of those that nvidia-smi lists CUDA sees. CUDA_VISIBLE_DEVICES holds indices and
# beginnings of UUIDs, and what comes behind one that names nothing is not seen (CUDA Programming Guide, CUDA
# Environment Variables); nvidia-smi does not look at it.
visible_gpus() {
    local list=$1 all count=0 entry entries
    all=$(grep -c '^GPU' <<<"$list") || true
    if [ -z "${CUDA_VISIBLE_DEVICES+set}" ]; then
        echo "$all"
        return
    fi
    IFS=', ' read -r -a entries <<<"$CUDA_VISIBLE_DEVICES"
    for entry in ${entries[@]+"${entries[@]}"}; do
        if [[ $entry =~ ^[0-9]{1,4}$ ]]; then
            [ "$((10#$entry))" -lt "$all" ] || break
        elif [[ ! $entry =~ ^(GPU|MIG)-. ]] || ! grep -qF "(UUID: $entry" <<<"$list"; then
            break
        fi
        count=$((count + 1))
    done
    echo "$count"
}

if ! command -v nvidia-smi >/dev/null; then
    say "gpu-acceptance: no nvidia-smi here, so no NVIDIA driver: nothing can be accepted on this machine"
    exit 77
fi
gpu_list=$(nvidia-smi -L 2>/dev/null) || true
gpus=$(visible_gpus "$gpu_list")
chosen=${CUDA_VISIBLE_DEVICES+" of CUDA_VISIBLE_DEVICES='$CUDA_VISIBLE_DEVICES'"}
if [ "$gpus" = 0 ]; then
    say "gpu-acceptance: the driver finds no GPU$chosen: nothing can be accepted on this machine"
    exit 77
fi

passed=0
failed=0
skipped=0
mkdir -p "$out"
out=$(cd "$out" && pwd)
[ -z "$build" ] || build=$(cd "$build" && pwd)
cd "$repository"
: >"$out/summary.txt"

note() { # note RESULT WHAT [WHY]
    printf '%-8s %s%s\n' "$1" "$2" "${3:+: $3}" | tee -a "$out/summary.txt"
}

pass() { # pass WHAT [WHY]
    passed=$((passed + 1))
    note passed "$@"
}

fail() { # fail WHAT WHY
    failed=$((failed + 1))
    note FAILED "$@"
}

skip() { # skip WHAT WHY
    skipped=$((skipped + 1))
    note skipped "$@"
}

# attempt WHAT FILE COMMAND...: its output into FILE; a failure is counted, success is the caller's to judge.
attempt() {
    local what=$1 file=$2 status=0
    shift 2
    "$@" >"$out/$file" 2>&1 </dev/null || status=$?
    case $status in
    0) return 0 ;;
    124 | 137) fail "$what" "exit code $status, ended after $longest_sec s or killed, see $file" ;;
    *) fail "$what" "exit code $status, see $file" ;;
    esac
    return 1
}

part() { # part WHAT FILE COMMAND...
    if attempt "$@"; then
        pass "$1"
    fi
}

limited() { # limited COMMAND...
    timeout -k 30 "$longest_sec" "$@"
}

# value_of REPORT KEY: the first number or text with that key in the JSON that a run has written; empty where
# there is none.
value_of() {
    sed -nE '/^ *"'"$2"'": /{s/^[^:]*: "?([^",]*)"?,?$/\1/p;q}' "$1" 2>/dev/null || true
}

losses_of() { # losses_of REPORT: step by step, on one line
    sed -n '/^ *"loss": \[/,/\]/p' "$1" 2>/dev/null | tr -cd '0-9.,e+-' | sed 's/,$//' || true
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

# ---- Tests ----

# ctest is content where every test was skipped, as it would be with a driver that is too old for the toolkit.
test_device() {
    local log=$out/tests.txt what='tests labelled cuda' status=0 ran ok left_out counts
    ctest --test-dir "$build" -L '^cuda$' --output-on-failure --no-tests=error >"$log" 2>&1 </dev/null || status=$?
    ran=$(grep -cE '^ *[0-9]+/[0-9]+ Test +#[0-9]+:' "$log") || true
    ok=$(grep -cE '^ *[0-9]+/[0-9]+ Test +#[0-9]+:.* Passed ' "$log") || true
    left_out=$(grep -cE '^ *[0-9]+/[0-9]+ Test +#[0-9]+:.*\*\*\*(Skipped|Not Run \(Disabled\))' "$log") || true
    counts="$ok passed, $((ran - ok - left_out)) failed, $left_out skipped; see tests.txt"
    if [ "$status" != 0 ]; then
        fail "$what" "exit code $status, $counts"
    elif [ "$ok" = 0 ]; then
        fail "$what" "none ran on a GPU: $counts"
    else
        pass "$what" "$counts"
    fi
}

# ---- Kernels under compute-sanitizer ----

# The products' kernels are cuBLASLt's. On Hopper they may be warp-specialised ones that load by TMA, for which
# racecheck and synccheck report errors that are none (github.com/NVIDIA/cutlass, issue 2626).
sanitize() {
    local tool test device
    if ! command -v compute-sanitizer >/dev/null; then
        skip 'compute-sanitizer' 'not installed'
        return
    fi
    for tool in memcheck racecheck initcheck synccheck; do
        for test in linear layernorm loss optimizer; do
            if [ "$test" = linear ] && [[ $tool = @(racecheck|synccheck) ]]; then
                skip "compute-sanitizer $tool, $test" "misjudges kernels of cuBLASLt's"
                continue
            fi
            for device in cuda cuda-bf16; do
                part "compute-sanitizer $tool, $test, $device" "sanitizer-$tool-$test-$device.txt" \
                    limited compute-sanitizer --tool "$tool" --error-exitcode 1 \
                    "$build/tests/kernels/kernels_${test}_test" "$device"
            done
        done
    done
}

# ---- Training ----

launch() { # launch P COMMAND...
    limited mpirun --oversubscribe --bind-to none -np "$@"
}

comm_of() { # comm_of P: ranks that share a GPU cannot use NCCL
    if [ "$1" -le "$gpus" ]; then echo nccl; else echo mpi; fi
}

# Why the two runs whose reports these are did not have the same bits; nothing where they had.
difference() { # difference REPORT REPORT
    local first second
    first=$(value_of "$1" parameters_hash)
    second=$(value_of "$2" parameters_hash)
    if [ -z "$first" ] || [ -z "$second" ] || [ -z "$(losses_of "$1")" ]; then
        echo "no losses and hash of the parameters in $(basename "$1") and $(basename "$2")"
    elif [ "$first" != "$second" ]; then
        echo "other bits when it ran again: the parameters' hash was $first, then $second"
    elif [ "$(losses_of "$1")" != "$(losses_of "$2")" ]; then
        echo "other losses when it ran again: $(losses_of "$1"), then $(losses_of "$2")"
    fi
}

# Losses and gradients of 3 steps against one process, and the same bits when it runs again.
verify() { # verify P SCHEDULE DTYPE OPTIONS...
    local p=$1 schedule=$2 dtype=$3 name what run why
    shift 3
    name="train-$schedule-$dtype-$p$(printf '%s' "$*" | tr -c 'a-z\n' '-')"
    what="train $schedule, $dtype, $p ranks${*:+ $*}"
    for run in "$name" "$name-again"; do
        attempt "$what" "$run.txt" \
            launch "$p" "$build/apps/dualpipe_train" --device cuda --comm "$(comm_of "$p")" --data synthetic \
            --schedule "$schedule" --dtype "$dtype" --steps 3 --verify --report "$out/$run.json" "$@" || return 0
    done
    why=$(difference "$out/$name.json" "$out/$name-again.json")
    if [ -n "$why" ]; then
        fail "$what" "$why"
    else
        pass "$what" "twice $(value_of "$out/$name.json" parameters_hash)"
    fi
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

judge_prediction() { # judge_prediction WHAT REPORT
    local what=$1 error
    error=$(value_of "$2" error_percent)
    if [[ ! $error =~ ^-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?$ ]]; then
        fail "$what" "no error of the predicted step in $(basename "$2")"
    elif awk -v error="$error" -v most="$most_error_percent" \
        'BEGIN { exit !(error <= most && -error <= most) }'; then
        pass "$what" "the predicted step is $(printf '%+.2f' "$error") % off"
    else
        fail "$what" "the predicted step is $(printf '%+.2f' "$error") % off, $most_error_percent % allowed"
    fi
}

predict() {
    local p dtype what name
    for p in ${ranks//,/ }; do
        for dtype in fp32 bf16; do
            what="predict dualpipev, $dtype, $p ranks"
            name=predict-$dtype-$p
            if attempt "$what" "$name.txt" \
                launch "$p" "$build/apps/dualpipe_train" --device cuda --comm "$(comm_of "$p")" --data synthetic \
                --schedule dualpipev --dtype "$dtype" --hidden 4096 --ffn 16384 --micro-batch-size 512 --steps 60 \
                --details --report "$out/$name.json" --html "$out/$name.html" --trace "$out/$name.trace.json"; then
                judge_prediction "$what" "$out/$name.json"
            fi
        done
    done
}

benchmark() {
    local p command
    for p in ${ranks//,/ }; do
        if [ "$(comm_of "$p")" = mpi ]; then
            skip "bench, $p ranks" "they would share a GPU, which NCCL does not allow"
            continue
        fi
        for command in gemm p2p overlap scheduler step referee; do
            part "bench $command, $p ranks" "bench-$command-$p.txt" \
                launch "$p" "$build/apps/dualpipe_bench" "$command" --device cuda --json "$out/bench-$command-$p.json"
        done
    done
}

# ---- The whole ----

export LC_ALL=C # numbers with a point
mpi_environment
if [ -z "$ranks" ]; then
    for p in 2 4 8; do
        [ "$p" -gt "$gpus" ] || ranks=${ranks:+$ranks,}$p
    done
    ranks=${ranks:-2,4}
fi
note facts "$gpus GPUs$chosen; listed: $(awk -F ' [(]UUID' '{ print $1 }' <<<"$gpu_list" | paste -sd ';')"
facts >"$out/machine.txt" 2>&1 || true
if [ -z "$build" ]; then
    build=$repository/build/gpu
    setup
    part 'build' build.txt build_all
    if [ "$failed" != 0 ]; then
        exit 1
    fi
fi
test_device
sanitize
train_matrix
predict
benchmark
note total "$passed passed, $failed failed, $skipped skipped; all of it in $out"
[ "$failed" = 0 ]
