#!/usr/bin/env bash
# From a clean clone to a trained model: installs what is missing, builds, and trains on 8 ranks of this
# machine. Options are passed on to dualpipe_train (--help lists them); DPR_RANKS=4 starts 4 ranks.
set -euo pipefail
# shellcheck source=scripts/setup.sh
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

names_data() { # names_data OPTION...: whether --data is among them
    local option
    for option in "$@"; do
        case $option in
        --data | --data=*) return 0 ;;
        esac
    done
    return 1
}

main() {
    local launch=(mpirun -np "${DPR_RANKS:-8}") data=()
    setup
    build release
    mpi_environment
    if [[ $(mpirun --version) == *"Open MPI"* ]]; then
        launch+=(--oversubscribe --bind-to none) # more ranks than cores are welcome
    fi
    if [ ! -d "$data_folder" ] && ! names_data "$@"; then
        say "quickstart: Fashion-MNIST is not installed: training on synthetic data (--data synthetic)"
        data=(--data synthetic)
    fi
    exec "${launch[@]}" "$repository/build/release/apps/dualpipe_train" "${data[@]}" "$@"
}

main "$@"
