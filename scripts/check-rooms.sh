#!/usr/bin/env bash
# Checks that the rooms depend on each other only in the order that docs/architecture.md gives: includes
# point down that order, a backend's headers stay in its folders, and no logic asks by #if which backend
# this build has. Prints every line that breaks a rule; exit code 1 where there is one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

read -r -d '' rules <<'AWK' || true
BEGIN {
    below["apps"] = "runtime models schedule kernels comm device base"
    below["runtime"] = "models schedule kernels comm device base"
    below["models"] = "schedule base"
    below["schedule"] = "base"
    below["kernels"] = "device base"
    below["comm"] = "device base"
    below["device"] = "base"
    below["base"] = "nothing"

    # Backends: what their headers look like, and the folders where these may appear.
    forbid("^mpi\\.h$", "^(comm/(mpi|nccl)|apps)/")
    forbid("^nccl(_net)?\\.h$", "^comm/nccl/")
    forbid("^(cublas|cusparse|cudnn|curand)", "^kernels/cuda/")
    forbid("^(cuda|cooperative_groups|driver_types|vector_types|device_launch|thrust/|cub/|nvml)",
        "^((device|kernels)/cuda|comm/nccl)/")
    forbid("^(nvtx3/|nvToolsExt)", "^((device|kernels)/cuda|comm/nccl)/")
    forbid("^(cblas|openblas|lapacke)", "^kernels/host/")
    backend_folder = "^((device|kernels)/(host|cuda)|comm/(mpi|nccl|local))/"
}
function forbid(header, home) {
    headers++
    backend_header[headers] = header
    backend_home[headers] = home
}
function complain(what) {
    printf "%s:%d: %s\n    %s\n", FILENAME, FNR, what, $0
    broken++
}
FNR == 1 {
    files++
    room = FILENAME
    sub(/\/.*/, "", room)
}
/^[ \t]*#[ \t]*include[ \t]*[<"]/ {
    target = $0
    sub(/^[^<"]*[<"]/, "", target)
    sub(/[>"].*/, "", target)
    for (i = 1; i <= headers; i++)
        if (target ~ backend_header[i] && FILENAME !~ backend_home[i])
            complain("a backend's header outside its folders")
    other = target
    if (!sub(/\/.*/, "", other) || !(other in below) || other == room)
        next
    if (index(" " below[room] " ", " " other " ") == 0)
        complain(room " may not include " other ", only " below[room])
    else if (target ~ /_impl\.h$/)
        complain("the implementer's side of " other " used from " room)
    else if (target ~ backend_folder && FILENAME !~ backend_folder)
        complain("one backend of " other " used from code for all of them")
}
/^[ \t]*#[ \t]*(el)?if(n?def)?[ \t(].*(CUDA|NCCL|MPI|OPENBLAS)/ && FILENAME !~ backend_folder {
    complain("an #if on a backend: let CMake choose the file instead")
}
END {
    if (broken > 0) {
        printf "check-rooms: %d lines break the rules\n", broken
        exit 1
    }
    printf "check-rooms: %d files, every include points down\n", files
}
AWK

rooms=()
for room in apps runtime models schedule kernels comm device base; do
    [ ! -d "$room" ] || rooms+=("$room")
done
mapfile -d '' -t sources < <(
    find "${rooms[@]}" -type f \( -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' \) -print0 | sort -z
)
awk "$rules" "${sources[@]}"
