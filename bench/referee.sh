#!/usr/bin/env bash
# The formula referee over several numbers of ranks: dualpipe_bench referee under a launcher for each, the
# rows of all in one CSV, and the mean errors over them.
#
#     bench/referee.sh [-p RANKS,...] [-o FILE.csv] [-- OPTIONS OF dualpipe_bench referee ...]
#
# Without options: P = 2, 4, 8, two models, by the core clock.
set -euo pipefail
cd "$(dirname "$0")/.."
ranks=2,4,8
out=referee.csv
while getopts 'p:o:' option; do
    case $option in
    p) ranks=$OPTARG ;;
    o) out=$OPTARG ;;
    *) sed -n '2,7s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
    esac
done
shift $((OPTIND - 1))
if [[ ! $ranks =~ ^[1-9][0-9]*(,[1-9][0-9]*)*$ ]]; then
    echo "-p '$ranks': expected numbers of ranks with commas between them, such as 2,4,8" >&2
    exit 2
fi
bench=${DPR_BENCH:-build/release/apps/dualpipe_bench}
if [ ! -x "$bench" ]; then
    echo "no $bench: build it first with scripts/quickstart.sh, or set DPR_BENCH" >&2
    exit 2
fi
if [ "$(id -u)" = 0 ]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
[ $# -gt 0 ] || set -- --clock core --shape 256x1024,512x1024x16x16
part=$(mktemp)
all=$(mktemp)
trap 'rm -f "$part" "$all"' EXIT

for p in ${ranks//,/ }; do
    mpirun --oversubscribe --bind-to none -np "$p" "$bench" referee --csv "$part" "$@" </dev/null
    # the first table ends at an empty line; one header is enough
    awk -v first="$([ -s "$all" ] || echo 1)" '/^$/ { exit } NR > 1 || first' "$part" >>"$all"
done
cp "$all" "$out"
awk -F, '
    NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next }
    {
        step += $at["step_error_mean"]
        bubble += $at["bubble_error_mean"]
        missed += $at["blame"] != "-"
        rows++
    }
    END {
        printf "\n%d rows: mean step-time error %.2f %%, mean absolute per-rank bubble error %.2f points, ", \
            rows, 100 * step / rows, 100 * bubble / rows
        printf "%d rows beyond 3 %% or 1 point\n", missed
    }' "$all"
