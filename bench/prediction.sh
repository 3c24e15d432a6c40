#!/usr/bin/env bash
# How well is a run predicted? Starts the same training several times and prints, run by run, the step time
# predicted and measured, and the largest error of a rank's bubble; then the medians.
#
#     bench/prediction.sh [-n RUNS] [-p RANKS] [-- OPTIONS OF dualpipe_train ...]
set -euo pipefail
cd "$(dirname "$0")/.."
runs=5
ranks=8
while getopts 'n:p:' option; do
    case $option in
    n) runs=$OPTARG ;;
    p) ranks=$OPTARG ;;
    *) sed -n '2,6s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
    esac
done
shift $((OPTIND - 1))
train=${DPR_TRAIN:-build/release/apps/dualpipe_train}
if [ ! -x "$train" ]; then
    echo "no $train: build it first with scripts/quickstart.sh, or set DPR_TRAIN" >&2
    exit 2
fi
if [ "$(id -u)" = 0 ]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
report=$(mktemp)
trap 'rm -f "$report"' EXIT

printf '%-4s %-11s %-6s %13s %13s %9s %12s %12s\n' run schedule clock predicted_ms measured_ms \
    error_% bubble_pts worst_pts
for run in $(seq "$runs"); do
    mpirun --oversubscribe --bind-to none -np "$ranks" "$train" --quiet --steps 100 \
        --report "$report" "$@" </dev/null
    # Each value of the report stands on a line of its own; a rank's three ratios follow one another.
    awk -v run="$run" '
        function number(line) { sub(/^[^:]*: */, "", line); sub(/,$/, "", line); gsub(/"/, "", line); return line }
        /"explanation":/ { exit } # what follows is of one step
        /"schedule":/ { schedule = number($0) }
        /"clock":/ { clock = number($0) }
        /"predicted":/ && predicted == "" && in_step { predicted = number($0) }
        /"measured":/ && in_step { measured = number($0) }
        /"step_time_sec"/ { in_step = 1 }
        /}/ { in_step = 0 }
        /"ranks": \[/ { in_ranks = 1 }
        /"simulated":/ { simulated = number($0) }
        /"measured":/ && in_bubble { error = 100 * (simulated - number($0)); error = error < 0 ? -error : error
                                     if (in_ranks) worst = error > worst ? error : worst; else mean = error }
        /"bubble_ratio"/ { in_bubble = 1 }
        /}/ { in_bubble = 0 }
        END { printf "%-4d %-11s %-6s %13.3f %13.3f %+9.2f %12.2f %12.2f\n", run, schedule, clock,
              1e3 * predicted, 1e3 * measured, 100 * (predicted / measured - 1), mean, worst }
    ' "$report"
done
