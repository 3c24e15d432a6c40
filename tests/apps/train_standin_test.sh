#!/usr/bin/env bash
# dualpipe_train on the stand-in for CUDA: the program itself, its choice of device and transport, every
# number format against one process, and what the report says of the device. A process has the stand-in's
# eight GPUs for itself, and its NCCL connects no processes: more than one rank go over MPI.
set -euo pipefail
train=$1
# shellcheck source=tests/apps/mpi_env.sh
. "$(dirname "$0")/mpi_env.sh"
small=(--data synthetic:train=256,test=32,features=16,classes=4 --hidden 16 --ffn 32 --blocks 4
    --micro-batch-size 4 --steps 2 --calibrate 1 --quiet)

touch "$scratch/report.json"

value() { # value KEY: the first value of a key in the last report
    sed -n "s/^ *\"$1\": \"\\{0,1\\}\\([^\"]*\\)\"\\{0,1\\},\$/\\1/p" "$scratch/report.json" | head -1
}

is() { # is KEY PATTERN WHAT
    if value "$1" | grep -E -- "$2" >/dev/null; then
        printf 'ok %s\n' "$3"
    else
        fail "$3: $1 is '$(value "$1")', expected /$2/"
    fi
}

memory_holds() { # every rank's predicted bytes are those held
    if grep -q '"memory_bytes"' "$scratch/report.json" &&
        [ "$(sed -n 's/^ *"predicted_memory_bytes": //p' "$scratch/report.json")" = \
            "$(sed -n 's/^ *"memory_bytes": //p' "$scratch/report.json")" ]; then
        printf 'ok memory held is memory predicted\n'
    else
        fail 'memory held is not memory predicted'
    fi
}

for dtype in fp32 tf32 bf16; do
    run 120 mpirun -np 2 "$train" "${small[@]}" --schedule dualpipe --device cuda --comm mpi --dtype $dtype \
        --verify --report "$scratch/report.json"
    expect 0 '' "$dtype on two ranks agrees with one process"
    is dtype "^$dtype\$" "$dtype is in the report"
    memory_holds
done
is device_reason '^as asked$' 'why this device'
is comm 'mpi|MPI' 'what carries the transfers'
is pci '^[0-9a-f]{4}:[0-9a-f]{2}:' "the GPU's PCI id"
is driver 'driver .*runtime' 'the versions of driver and runtime'

# One rank, which auto gives a GPU and NCCL; recorded, too: the same bits.
run 60 mpirun -np 1 "$train" "${small[@]}" --dtype bf16 --verify --report "$scratch/report.json"
expect 0 '' 'auto takes the GPU'
is device_reason 'every rank has a GPU' 'auto says why'
is comm NCCL 'auto takes NCCL with it'
is cuda_graph false 'nothing is recorded'
plain=$(value parameters_hash)
run 60 mpirun -np 1 "$train" "${small[@]}" --dtype bf16 --cuda-graph --comm-ctas 2 --report "$scratch/report.json"
expect 0 '' 'a recorded step'
is cuda_graph true 'the report says so'
is parameters_hash "^$plain\$" 'a recorded step computes the same bits'

run 60 mpirun -np 9 "$train" "${small[@]}" --schedule 1f1b --blocks 9 --device cuda
expect 2 'the 9 ranks on the node of rank 8 see 8 GPUs.*at most 8 ranks.*--comm mpi' 'more ranks than GPUs with NCCL'
expect_once 'rank [0-9]+: error' 'more ranks than GPUs with NCCL: said once'
run 60 mpirun -np 2 "$train" "${small[@]}" --schedule 1f1b --device cuda --comm mpi --cuda-graph
expect 2 '--cuda-graph cannot record transfers by MPI' 'a recorded step with MPI'
# A recorded step with NCCL: the program has set what keeps its order, so only the limit is left to refuse.
run 60 mpirun -np 2 "$train" "${small[@]}" --schedule 1f1b --device cuda --cuda-graph --memory-limit 1K
expect 2 'bytes needed.*--memory-limit allows' 'the order of a recorded step is seen to'
NCCL_LAUNCH_ORDER_IMPLICIT=0 run 60 mpirun -np 2 "$train" "${small[@]}" --schedule 1f1b --device cuda --cuda-graph
expect 2 'NCCL_LAUNCH_ORDER_IMPLICIT=1, and it is 0' 'a recorded step whose order the user has switched off'
run 60 mpirun -np 2 "$train" "${small[@]}" --schedule 1f1b --device cuda --comm mpi --comm-ctas 2
expect 2 'comm-ctas 2 is only used by --comm nccl' 'CTAs of MPI'
finish
