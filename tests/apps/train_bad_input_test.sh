#!/usr/bin/env bash
# Bad input to dualpipe_train gets one clear error, from one rank, exit code 2, and never a hang.
set -euo pipefail
train=$1
# shellcheck source=tests/apps/mpi_env.sh
. "$(dirname "$0")/mpi_env.sh"
small=(--device host --data synthetic:train=512,test=64,features=16,classes=4 --hidden 16 --ffn 32
    --micro-batch-size 4 --steps 2 --quiet)

# bad RANKS TEXT WHAT OPTIONS...: run on RANKS ranks with the small model. What the cases take is starting
# the ranks; under sanitizers every third stands for all.
cases=0
bad() {
    local ranks=$1 text=$2 what=$3 launch=()
    shift 3
    cases=$((cases + 1))
    if [ -n "${DPR_TEST_SHORT-}" ] && [ $((cases % 3)) != 0 ]; then
        return
    fi
    [ "$ranks" = 1 ] || launch=(mpirun -np "$ranks")
    run 60 "${launch[@]}" "$train" "${small[@]}" "$@"
    expect 2 "$text" "$what"
    expect_once "rank [0-9]+: error" "$what: said once"
}

bad 3 'dualpipe.*(even|P)' 'P that dualpipe does not allow' --schedule dualpipe
bad 4 'M >= 2P|8' 'M that dualpipe does not allow' --schedule dualpipe --micro-batches 4
bad 2 'gpipe.*1f1b.*zb1p.*dualpipe' 'an unknown schedule lists the known' --schedule nonsense
bad 4 'block' 'fewer blocks than stages' --schedule 1f1b --blocks 3
bad 2 "'--nonsense' is unknown" 'an unknown option is named' --nonsense
bad 1 "'--lr' is unknown, ambiguous or lacks" 'an option without its value is named' --lr
bad 1 'only used by --schedule auto' 'activations without auto' --schedule 1f1b --activations 3
bad 1 'hidden.*whole number' 'a number that is none' --hidden many
bad 1 'hidden.*whole number from 1' 'a number out of range' --hidden 0
bad 1 'lr' 'a negative learning rate' --lr -1
bad 1 "unexpected argument 'extra'" 'a stray argument' extra
bad 1 'No such file|does not exist|cannot' 'a missing data folder' --data "$scratch/none"
bad 1 'cost-model' 'the model clock without costs' --clock model
bad 1 'cost' 'costs that do not parse' --cost-model F=quick
bad 1 'report' 'a report that cannot be written' --report "$scratch/no/such/folder.json"

mkdir "$scratch/short"
printf 'not an IDX file' >"$scratch/short/train-images-idx3-ubyte"
for name in train-labels-idx1 t10k-images-idx3 t10k-labels-idx1; do
    printf '\0\0\10\1\0\0\0\5abc' >"$scratch/short/$name-ubyte"
done
bad 1 'train-images-idx3-ubyte' 'a foreign data file' --data "$scratch/short"

printf '0F0,0F1\n1X0\n' >"$scratch/malformed.csv"
bad 2 'malformed.csv:2:2' 'a CSV that does not parse' --schedule-file "$scratch/malformed.csv"
printf '0F0,0B0\n1F0,1B0,1B0\n' >"$scratch/twice.csv"
bad 2 '1B0' 'a CSV with a duplicate action' --schedule-file "$scratch/twice.csv"
printf '0F0,0B0,0F1,0B1\n1F1,1B1,1F0,1B0\n' >"$scratch/deadlock.csv"
bad 2 'wait' 'a CSV that would deadlock' --schedule-file "$scratch/deadlock.csv"
lowered='0UNSHARD,0F0,0SEND_F0,0F1,0SEND_F1,0RECV_B0,0RECV_B1,0B0,0B1'
printf '%s\n1RECV_F1,1RECV_F0,1F0,1B0,1SEND_B0,1F1,1B1,1SEND_B1\n' "$lowered" >"$scratch/swapped.csv"
bad 2 'rank 1 receives it after that one' 'a lowered CSV with a swapped pair of receives' \
    --schedule-file "$scratch/swapped.csv"
printf '%s\n1RECV_F0,1RECV_F1,1F0,1B0,1F1,1B1,1SEND_B1\n' "$lowered" >"$scratch/unsent.csv"
bad 2 'unsent.csv:2:23: expected 1SEND_B0' 'a lowered CSV that lacks a send' \
    --schedule-file "$scratch/unsent.csv"
printf '0F0\n1F0\n' >"$scratch/forward.csv"
bad 2 'no backward' 'a CSV without a backward' --schedule-file "$scratch/forward.csv"
printf '0F0,0B0\n1F0,1B0\n' >"$scratch/two.csv"
bad 3 '3|2 ranks' 'a CSV for another number of ranks' --schedule-file "$scratch/two.csv"
bad 1 'No such file|cannot' 'a CSV that is not there' --schedule-file "$scratch/none.csv"

bad 1 "dtype 'fp16' is unknown: give one of fp32, tf32, bf16" 'an unknown number format' --dtype fp16
bad 1 '--dtype bf16 needs --device cuda.*(as asked).*--dtype fp32' 'bf16 on the host' --device host --dtype bf16
bad 1 '--dtype tf32 needs --device cuda' 'tf32 on the host' --device host --dtype tf32
bad 1 "comm 'tcp' is unknown: give one of auto, nccl, mpi" 'an unknown transport' --comm tcp
bad 1 '--comm nccl needs --device cuda.*--comm mpi' 'NCCL on the host' --device host --comm nccl
bad 1 '--cuda-graph needs --device cuda' 'a CUDA graph on the host' --device host --cuda-graph
bad 1 'comm-ctas 65 is out of range: give at most 64' 'too many CTAs' --comm-ctas 65
bad 1 "comm-ctas '0': give a whole number from 1 up" 'no CTAs' --comm-ctas 0
bad 1 'comm-ctas 4 is only used by --comm nccl' 'CTAs of MPI' --device host --comm-ctas 4
for seconds in -1 1e9; do
    bad 2 'timeout.*is out of range: give seconds, from 0 \(never\) to 1000000' "the timeout $seconds" \
        --timeout "$seconds"
done
for seconds in inf nan soon 3s ''; do
    bad 2 "timeout '$seconds': give a finite number" "the timeout '$seconds'" --timeout "$seconds"
done
bad 1 '--clock core is for the host device' "the core clock on cuda" --device cuda --clock core
bad 1 '--chaos 3 is for the host device' "chaos on cuda" --device cuda --chaos 3
run 60 mpirun -np 2 "$train" "${small[@]}" --schedule 1f1b --timeout 0
expect 0 '' 'no timeout'
run 60 mpirun -np 2 "$train" "${small[@]}" --schedule 1f1b --device host --comm mpi --dtype fp32 --timeout 100
expect 0 '' 'all defaults of the host, said'
run 60 mpirun -np 1 "$train" "${small[@]}" --schedule 1f1b : \
    -np 1 "$train" "${small[@]}" --schedule 1f1b --dtype bf16
expect 2 'different options.*--dtype fp32.*--dtype bf16' 'ranks started with different number formats'

for limit in 0 1.5G 12KB 1Kib Ki 2000000000G 2Ei; do
    bad 1 "memory-limit '$limit': give bytes from 1 to 2\^60" "the memory limit $limit" --memory-limit "$limit"
done
limited=(--schedule gpipe --micro-batches 40)
bad 4 'rank 0 cannot hold its part of schedule gpipe: 368164 bytes.*allows 368163;.*would fit.*1f1b' \
    'a plan that is one byte too large, and what would fit' "${limited[@]}" --memory-limit 368163
# suffixes as in dualpipe_plan: K is 1000, Ki is 1024
bad 4 'allows 368000;' 'a limit in thousands' "${limited[@]}" --memory-limit 368K
bad 4 'allows 367616;' 'a limit in 1024s' "${limited[@]}" --memory-limit 359Ki
bad 2 'no schedule would fit.*least is needed by' 'a limit that nothing fits' --memory-limit 1K
run 60 mpirun -np 4 "$train" "${small[@]}" "${limited[@]}" --memory-limit 368164
expect 0 '' 'a plan that fits to the byte runs'

run 60 mpirun -np 1 "$train" "${small[@]}" --schedule 1f1b --lr 0.1 : \
    -np 1 "$train" "${small[@]}" --schedule 1f1b --lr 0.2
expect 2 'different options.*--lr 0.1.*--lr 0.2' 'ranks started with different options'
expect_once 'rank [0-9]+: error' 'ranks started with different options: said once'

run 60 mpirun -np 1 "$train" "${small[@]}" --schedule 1f1b : -np 1 "$train" --version
expect 2 'different options' 'only one rank asked for its version'
bad 2 'nope' 'a schedule that is none, with a report' --schedule nope --report "$scratch/left.json"
if [ -e "$scratch/left.json" ]; then
    fail 'a refused run leaves a report file'
fi

run 60 mpirun -np 2 "$train" --help
expect 0 'schedule-file' 'help'
expect_once '^Usage' 'help is printed once'
run 60 "$train" --version
expect 0 '^dualpipe_train [0-9]' 'version'
finish
