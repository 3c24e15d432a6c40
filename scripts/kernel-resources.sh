#!/usr/bin/env bash
# What the compiler made of each CUDA kernel: registers, spills, static shared memory, and the widest access
# to global memory, as a table in Markdown. docs/kernels.md holds its output. Needs nvcc, no GPU and no build.
#
#     scripts/kernel-resources.sh [architecture ...]        80 90 100 where none are given
#
# Exit code 0; 1 where a kernel spills registers; 77 where there is no nvcc.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

nvcc=${NVCC:-$(command -v nvcc || true)}
if [[ -z $nvcc ]]; then
    echo "kernel-resources: needs nvcc (CUDA Toolkit 12 or later); set NVCC to its path" >&2
    exit 77
fi
architectures=("$@")
[[ ${#architectures[@]} -gt 0 ]] || architectures=(80 90 100)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags=(-std=c++17 -O3 -I. -D_GNU_SOURCE)

# ptxas says for each kernel: its name and architecture, then spills, then registers and shared memory.
for source in kernels/cuda/*.cu; do
    for architecture in "${architectures[@]}"; do
        "$nvcc" "${flags[@]}" -Xptxas -v -gencode "arch=compute_$architecture,code=sm_$architecture" \
            -c "$source" -o "$work/object" 2>&1
    done
done | awk '
    /Compiling entry function/ { split($0, quoted, "\047"); name = quoted[2]; architecture = quoted[4] }
    /bytes spill stores/ { spills = $5 + $9 }
    /Used [0-9]+ registers/ {
        shared = 0
        registers = 0
        for (i = 2; i <= NF; i++) {
            if ($i ~ /^registers/) registers = $(i - 1)
            if ($i ~ /^smem/) shared = $(i - 2)
        }
        print name, architecture, registers, spills, shared
    }' > "$work/resources"

# PTX shows the width of each access: ld.global.v4.f32, st.global.b16 and the like.
for source in kernels/cuda/*.cu; do
    "$nvcc" "${flags[@]}" -arch="compute_${architectures[0]}" --ptx "$source" -o "$work/ptx"
    awk '
        /\.entry / { name = $0; sub(/.*\.entry /, "", name); sub(/\(.*/, "", name) }
        $0 ~ /(ld|st)\.(param\.)?global/ || /(ld|st)\.global/ {
            n = split($1, part, ".")
            if ($1 ~ /^@/) n = split($2, part, ".")
            bits = part[n]
            gsub(/[^0-9]/, "", bits)
            count = 1
            for (i = 1; i <= n; i++) if (part[i] ~ /^v[0-9]$/) count = substr(part[i], 2)
            bytes = bits / 8 * count
            if (bytes > widest[name]) widest[name] = bytes
        }
        END { for (name in widest) print name, widest[name] }' "$work/ptx"
done > "$work/widths"

"$nvcc" --version | awk '/release/ { sub(/.*release /, ""); sub(/,.*V/, " (V"); print "CUDA Toolkit " $0 ")" }'
echo
echo "| kernel | registers (${architectures[*]/#/sm_}) | spills (bytes) | shared memory (bytes) | widest access (bytes) |"
echo "|---|---|---|---|---|"
awk '
    NR == FNR { width[$1] = $2; next }
    {
        if (!($1 in registers)) order[++kernels] = $1
        registers[$1] = registers[$1] (registers[$1] == "" ? "" : " / ") $3
        spills[$1] += $4
        shared[$1] = $5
    }
    END {
        for (i = 1; i <= kernels; i++) {
            k = order[i]
            printf "| %s | %s | %d | %d | %d |\n", k, registers[k], spills[k], shared[k], width[k]
        }
    }' "$work/widths" "$work/resources" | c++filt |
    sed -E 's/\(anonymous namespace\):://g; s/__nv_bfloat16/bf16/g; s/^\| void /| /;
        s/\((const )?(dpr_elementwise_args|[a-z_]+_args)(<[^|]*>)?\)//; s/\((int|bool)\)//g;
        s/, >/>/g' | sort > "$work/table"
cat "$work/table"
if awk -F'|' '$4 + 0 > 0 { found = 1 } END { exit !found }' "$work/table"; then
    echo "kernel-resources: a kernel spills registers" >&2
    exit 1
fi
