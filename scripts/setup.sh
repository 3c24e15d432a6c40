#!/usr/bin/env bash
# Installs what building, testing and the quick start need, on Debian 12 or newer and Ubuntu 24.04 or newer.
# Does nothing where all is there. Run it, or source it: the other scripts do, for setup() and its helpers.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
required_packages=(gcc cmake pkg-config make libopenmpi-dev openmpi-bin libopenblas-pthread-dev
    libjansson-dev zlib1g-dev libxxhash-dev libhwloc-dev libcmocka-dev)
data_package=dataset-fashion-mnist
data_folder=/usr/share/datasets/fashion-mnist
least_cmake=3.25

say() { printf '%s\n' "$*" >&2; }

is_installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# as_root COMMAND...: directly where we are root, else by sudo.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >&2
}

install_packages() { # install_packages MISSING...
    if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
        say "setup: missing packages: $*"
        say "setup: neither root nor sudo here; ask an administrator for: apt-get install $*"
        return 1
    fi
    say "setup: installing $*"
    as_root apt-get update -q >&2 || say "setup: apt-get update failed; trying with the lists that are there"
    apt_install "$@" && return
    say "setup: apt could not install all of: $*"
    return 1
}

# The data are worth a try, not a failure: without them the quick start trains on synthetic data.
install_data() {
    if is_installed "$data_package" || [ -d "$data_folder" ]; then
        return
    fi
    if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
        say "setup: $data_package is not installed, and neither root nor sudo here"
    elif apt-cache show "$data_package" >/dev/null 2>&1; then
        say "setup: installing $data_package (30 MB)"
        apt_install "$data_package" || say "setup: $data_package could not be installed"
    else
        say "setup: this distribution has no package $data_package"
    fi
}

check_cmake() {
    local found
    found=$(cmake --version | sed -n '1s/.* //p')
    if [ "$(printf '%s\n' "$least_cmake" "$found" | sort -V | head -n 1)" != "$least_cmake" ]; then
        say "setup: CMake $found is too old, $least_cmake is needed: take Debian 12, Ubuntu 24.04 or newer," \
            "or install it from https://cmake.org/download"
        return 1
    fi
}

setup() {
    local missing=() package
    if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
        say "setup: no apt here; the packages are named as in Debian 12: ${required_packages[*]}"
        say "setup: going on with what is installed"
        check_cmake
        return
    fi
    for package in "${required_packages[@]}"; do
        is_installed "$package" || missing+=("$package")
    done
    if [ "${#missing[@]}" -gt 0 ]; then
        install_packages "${missing[@]}" || return
    fi
    install_data
    check_cmake
}

# What Open MPI needs to start as root (only where we are) and in a container.
mpi_environment() {
    if [ "$(id -u)" = 0 ]; then
        export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    fi
    # Containers forbid the copying from process to process that Open MPI prefers within a node.
    if [ -e /.dockerenv ] || [ -e /run/.containerenv ]; then
        export OMPI_MCA_btl_vader_single_copy_mechanism=${OMPI_MCA_btl_vader_single_copy_mechanism:-none}
    fi
}

# build PRESET [TARGET...]: configures where that was not done, then builds what is out of date, of the targets
# alone where some are named. Quiet unless it fails.
build() {
    local preset=$1 folder=$repository/build/$1 log status=0
    shift
    log=$(mktemp)
    say "build: $preset"
    if [ ! -f "$folder/Makefile" ] && [ ! -f "$folder/build.ninja" ]; then
        (cd "$repository" && cmake --preset "$preset") >"$log" 2>&1 || status=$?
    fi
    if [ "$status" = 0 ]; then
        cmake --build "$folder" --parallel "$(nproc)" ${@:+--target "$@"} >>"$log" 2>&1 || status=$?
    fi
    if [ "$status" != 0 ]; then
        cat "$log" >&2
        say "build: $preset failed"
    fi
    rm -f "$log"
    return "$status"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    setup
fi
