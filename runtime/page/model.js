"use strict";
/*
 * The data of the page, named. Nodes are numbers: ops first, rank by rank, then transfers. A "side" is
 * one timeline, predicted or measured: times by node, its ledger and its critical path.
 */
const data = JSON.parse(document.getElementById("data").textContent);
const sides = data.sides;

/* dpr_node_kind_t. */
const F = 0, B = 1, I = 2, W = 3, FB = 4, ACTIVATION = 5;

const isTransfer = node => data.kind[node] >= ACTIVATION;

/* ---- Texts ---- */

/* "0F3", "(0F7;7B3)", "activation of 0F3". */
function opName(node) {
    const kind = data.kind[node];
    const first = data.stage[node] + (kind === FB ? "F" : kind > ACTIVATION ? "B"
        : kind === ACTIVATION ? "F" : KINDS[kind].name) + data.microBatch[node];
    if (kind === FB) {
        return `(${first};${data.bStage[node]}B${data.bMicroBatch[node]})`;
    }
    return isTransfer(node) ? `${kind === ACTIVATION ? "activation" : "gradient"} of ${first}` : first;
}

/* The same with where: "rank 2: 1F3", "rank 0 → 1: activation of 0F3". */
function nodeName(node) {
    return isTransfer(node) ? `rank ${data.rank[node]} → ${data.peer[node]}: ${opName(node)}`
        : `rank ${data.rank[node]}: ${opName(node)}`;
}

/* What fits on an op: "F3", and of an overlapped pair "F7 B3". */
function shortName(node) {
    const kind = data.kind[node];
    return kind === FB ? `F${data.microBatch[node]} B${data.bMicroBatch[node]}`
        : KINDS[kind].name + data.microBatch[node];
}

function number(value) {
    return String(Number(value.toPrecision(5)));
}

/* A time with its unit: seconds as s, ms or µs by size; without a unit, the number. */
function time(value) {
    if (data.unit !== "s") {
        return number(value) + (data.unit ? " " + data.unit : "");
    }
    const size = Math.abs(value);
    return size >= 1 || size === 0 ? `${number(value)} s`
        : size >= 1e-3 ? `${number(1e3 * value)} ms` : `${number(1e6 * value)} µs`;
}

const percent = ratio => `${(100 * ratio).toFixed(2)} %`;
const signed = text => (/^-|^0(\.0*)?( |$)/.test(text) ? text : "+" + text);
const points = ratio => signed((100 * ratio).toFixed(2).replace(/^-(0\.0*)$/, "$1"));

/* "dependency 3.2 ms, wire 1 ms", largest first. */
function causesText(sec) {
    return sec.map((value, cause) => [value, data.causes[cause][0]]).filter(entry => entry[0] !== 0)
        .sort((a, b) => b[0] - a[0]).map(entry => `${entry[1]} ${time(entry[0])}`).join(", ");
}

/* ---- Sides ---- */

/* Some of `nodes`, by their start in a side. */
function sorted(side, nodes) {
    return Int32Array.from(nodes).sort((a, b) => side.start[a] - side.start[b] || a - b);
}

function range(from, to) {
    return Array.from({length: to - from}, (_, i) => from + i);
}

/* By source rank, the nodes of each of its channels. */
function channelsBySource() {
    const channels = new Map();
    const found = range(0, data.ranks).map(() => []);
    for (let node = data.computeCount; node < data.kind.length; node++) {
        if (!channels.has(data.channel[node])) {
            channels.set(data.channel[node], []);
            found[data.rank[node]].push(channels.get(data.channel[node]));
        }
        channels.get(data.channel[node]).push(node);
    }
    return found;
}

/* Times from the first start of the side's own step, so that both begin together. */
function shiftSide(side) {
    const shift = sec => sec - side.from;
    for (const key of ["start", "end", "senderReady", "receiverReady"]) {
        side[key] = side[key].map(shift);
    }
    for (const entry of side.idle) {
        entry[3] = shift(entry[3]);
        entry[4] = shift(entry[4]);
    }
    side.held = side.held.map(points =>
        points.map((value, i) => i % 2 === 0 ? shift(value) : value));
}

/* What is looked up: ops and messages by place, intervals by rank and by the op that ended them. */
function indexSide(side, channels) {
    side.ops = range(0, data.ranks).map(rank =>
        sorted(side, range(data.rankBegin[rank], data.rankBegin[rank + 1])));
    side.channels = channels.map(list => list.map(nodes => sorted(side, nodes)));
    side.idle = side.idle.map(entry => ({rank: entry[0], op: entry[1], release: entry[2],
        start: entry[3], end: entry[4], sec: entry.slice(5)}));
    side.idleByRank = range(0, data.ranks).map(() => []);
    side.idleByOp = new Map();
    for (const idle of side.idle) {
        side.idleByRank[idle.rank].push(idle);
        side.idleByOp.set(idle.op, idle);
    }
    side.onPath = new Set(side.path.map(link => link[0]));
    side.peak = side.held.map(points => {
        let peak = 0;
        for (let i = 1; i < points.length; i += 2) {
            peak = Math.max(peak, points[i]);
        }
        return peak;
    });
}

for (const side of sides) {
    shiftSide(side);
    indexSide(side, channelsBySource());
}
const duration = (side, node) => side.end[node] - side.start[node];
const otherSide = side => sides.find(other => other !== side);

/* ---- What is said of a thing that is pointed at ---- */

function describeMeasured(side, node, lines) {
    const other = otherSide(side);
    if (other) {
        const difference = duration(side, node) - duration(other, node);
        const more = side.name === "measured" ? -difference : difference;
        lines.push([`${other.name} duration`, time(duration(other, node))],
            ["predicted - measured", signed(time(more))]);
    }
    if (data.measuredCost) {
        lines.push(["mean duration of the last steps", time(data.measuredCost[node])]);
    }
}

function describeNode(side, node) {
    const lines = [[side.name, nodeName(node)]];
    if (isTransfer(node)) {
        const i = node - data.computeCount;
        lines.push(["sender ready", time(side.senderReady[i])],
            ["receiver ready", time(side.receiverReady[i])]);
    }
    lines.push(["start", time(side.start[node])], [isTransfer(node) ? "done" : "end",
        time(side.end[node])], ["duration", time(duration(side, node))]);
    describeMeasured(side, node, lines);
    const idle = side.idleByOp.get(node);
    if (idle) {
        lines.push(["idle before it", `${time(idle.end - idle.start)}: ${causesText(idle.sec)}`]);
        if (idle.release >= 0) {
            lines.push(["waited for", nodeName(idle.release)]);
        }
    } else if (!isTransfer(node)) {
        lines.push(["idle before it", "none"]);
    }
    lines.push(["critical path", side.onPath.has(node) ? "on it" : "not on it"]);
    return lines;
}

function describeIdle(side, idle) {
    const lines = [[side.name, `rank ${idle.rank} idle`], ["from", time(idle.start)],
        ["to", time(idle.end)], ["length", time(idle.end - idle.start)],
        ["causes", causesText(idle.sec)]];
    if (idle.release >= 0) {
        lines.push(["waited for", nodeName(idle.release)]);
    }
    lines.push(["ended by", idle.op >= 0 ? opName(idle.op) : "the end of the step"]);
    return lines;
}

/* A thing is {side, node} or {side, idle}. */
function describe(thing) {
    return thing.idle ? describeIdle(thing.side, thing.idle) : describeNode(thing.side, thing.node);
}
