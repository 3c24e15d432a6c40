#!/usr/bin/env bash
# What a training run leaves to look at: the explanation, the drawing, the trace, the page and the saved run,
# which dualpipe_plan reads again. Under the model clock nothing of the prediction may be wrong.
set -euo pipefail
train=$1
plan=$2
# shellcheck source=tests/apps/mpi_env.sh
. "$(dirname "$0")/mpi_env.sh"
small=(--data synthetic:train=512,test=64,features=16,classes=4 --hidden 16 --ffn 32 --micro-batch-size 4)
model=(--cost-model F=1e-3,I=1e-3,W=1e-3,wire=1e-4)
outputs=(--details --ascii=100 --html "$scratch/run.html" --trace "$scratch/run.trace" --save "$scratch/run.json"
    --report "$scratch/report.json")

run 60 mpirun -np 4 "$train" "${small[@]}" "${model[@]}" --steps 7 --refresh 2 "${outputs[@]}"
parts='cost \+0\.00, wire \+0\.00, host \+0\.00, order \+0\.00'
expect 0 "its time .*: \+0\.00 %, of which $parts\$" 'under the model clock no part of the step is mispredicted'
expect 0 "its bubble .*: \+0\.00 points, of which $parts; rank by rank 0\.00" 'nor of the bubbles'
expect 0 '^its ops +F \+0\.00 %, .*wire \+0\.00 %: mean cost' 'nor of any kind of op'
expect 0 'explained +step [1-7], the nearest to the medians of the last 7 \(of 7;' 'the step that is explained is named'
expect 0 'predicted anew +3 times .*: 0\.00 % off in step time, 0\.00 points' 'predictions are renewed and kept'
expect 0 '^ +7 to +7 ' 'the last promise is for the last step'
expect 0 '^measured, step [1-7]' 'both steps are drawn'
expect 0 '^rank 3 \|.*X2,5' 'rank by rank'
for file in run.html run.trace run.json report.json; do
    [ -s "$scratch/$file" ] || fail "$file was not written"
done
if LC_ALL=C grep -q $'\033' "$scratch/out"; then
    fail 'colour where no terminal is'
fi
grep -q '"from": "measured steps"' "$scratch/report.json" || fail 'the report lacks the renewed predictions'
cp "$scratch/run.trace" "$scratch/first.trace"

run 60 "$plan" report "$scratch/run.json" --trace "$scratch/again.trace" --html "$scratch/again.html"
expect 0 'dualpipe' 'the saved run is read again'
cmp -s "$scratch/run.html" "$scratch/again.html" || fail 'the saved run makes another page'

run 60 mpirun -np 2 "$train" "${small[@]}" --clock wall --steps 12 --details --save "$scratch/wall.json"
expect 0 'clocks against rank 0' 'a real clock is compared'
# every op was enqueued, and not after it began (the ranks' clocks agree to microseconds)
if command -v python3 >/dev/null; then
    python3 - "$scratch/wall.json" <<'END' || fail 'the times of enqueueing are wrong'
import json, sys
run = json.load(open(sys.argv[1]))
ops = run["graph"]["compute_nodes"]
late = [e - s for e, s in zip(run["enqueued"][:ops], run["measured"]["start"])]
assert len(late) == ops and max(late) < 1e-3 and min(late) < 0, (max(late), min(late))
END
fi
run 60 "$plan" report "$scratch/run.json" "$scratch/wall.json"
expect 0 '^ +1  host' 'two runs are compared'

run 60 mpirun -np 2 "$train" "${small[@]}" --steps 2 --quiet --html "$scratch/no/such/folder.html"
expect 2 'html.*cannot be written' 'a page that cannot be written is known before'
run 60 mpirun -np 2 "$train" "${small[@]}" --steps 2 --quiet --ascii=3
expect 2 'ascii.*from 40' 'a drawing too narrow'
run 60 mpirun -np 2 "$train" "${small[@]}" --steps 2 --quiet --refresh -3
expect 2 'refresh' 'a negative interval'
finish
