#!/usr/bin/env bash
# page_browser_test.sh PLAN [SCREENSHOT.png]: the page of a run, opened and used in headless Chromium.
#
# The run is a simulation with another one, of other costs, in the place of its measurement; its texts
# try to break out of the page. Skipped (77) where Chromium or Python 3 is not installed.
set -u

plan=$(realpath "$1")
driver=$(realpath "$(dirname "$0")/page_browser.py")
screenshot=${2:+$(realpath -m "$2")}
if ! command -v python3 >/dev/null || ! command -v "${CHROMIUM:-chromium}" >/dev/null; then
    echo "chromium or python3 is not installed"
    exit 77
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1

simulate() {
    "$plan" simulate --schedule dualpipe --ranks 8 --micro-batches 20 "$@" >/dev/null
}

simulate --cost F=1,B=2,W=1,wire=0.2 --save predicted.json || exit 1
simulate --cost F=1,B=2.1,W=0.95,wire=0.3 --straggler 3=1.15 --straggler 6=1.05 --save other.json || exit 1
python3 - "${screenshot:+plain}" <<'PYTHON' || exit 1
import json
import sys

run = json.load(open("predicted.json"))
run["measured"] = json.load(open("other.json"))["predicted"]
run["clock"] = "core"
run["facts"].append({"name": "measurement", "value": "a simulation with other costs"})
if not sys.argv[1]:
    hostile = "</script><script>window.hacked=1</script><img src=x onerror='window.hacked=1'>"
    run["schedule"] = hostile
    run["facts"].append({"name": hostile, "value": hostile})
json.dump(run, open("run.json", "w"))
PYTHON
"$plan" report run.json --html page.html >/dev/null || exit 1
python3 "$driver" page.html ${screenshot:+"$screenshot"}
