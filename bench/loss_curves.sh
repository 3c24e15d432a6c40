#!/usr/bin/env bash
# Do schedules learn alike? Trains the same model on the same data under each schedule and prints the largest
# relative difference of a step's loss from the first schedule's; exit code 1 where it exceeds the limit.
#
#     bench/loss_curves.sh [-p RANKS] [-s STEPS] [-l LIMIT] [-S "SCHEDULE ..."] [-- OPTIONS OF dualpipe_train ...]
set -euo pipefail
cd "$(dirname "$0")/.."
ranks=8
steps=50
limit=1e-3
schedules='dualpipe dualpipev 1f1b'
while getopts 'p:s:l:S:' option; do
    case $option in
    p) ranks=$OPTARG ;;
    s) steps=$OPTARG ;;
    l) limit=$OPTARG ;;
    S) schedules=$OPTARG ;;
    *) sed -n '2,5s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
    esac
done
shift $((OPTIND - 1))
train=${DPR_TRAIN:-build/release/apps/dualpipe_train}
if [ "$(id -u)" = 0 ]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
first=
code=0
for schedule in $schedules; do
    mpirun --oversubscribe --bind-to none -np "$ranks" "$train" --quiet --schedule "$schedule" \
        --micro-batches $((5 * ranks / 2)) --steps "$steps" --report "$scratch/report.json" "$@" </dev/null
    # The losses stand one a line between "loss": [ and ].
    awk '/"loss": \[/ { inside = 1; next } /\]/ { inside = 0 } inside { sub(/,/, ""); print $1 }' \
        "$scratch/report.json" >"$scratch/$schedule"
    first=${first:-$schedule}
    paste "$scratch/$first" "$scratch/$schedule" | awk -v name="$schedule" -v first="$first" -v limit="$limit" '
        { d = ($2 - $1) / $1; d = d < 0 ? -d : d; if (d > worst) { worst = d; at = NR } last = $2 }
        END { printf "%-10s %d steps, last loss %.6f, largest difference from %s %.2e at step %d\n",
                     name, NR, last, first, worst, at
              exit !(NR > 0 && worst <= limit) }' || code=1
done
exit $code
