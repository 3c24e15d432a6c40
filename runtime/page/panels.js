/* Tables and bars below the timelines, and the summary in words. Every text goes in as text. */

/* An element; `content` is a text, an element or several of them. */
function make(tag, attributes = {}, content = []) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
        element.setAttribute(name, value);
    }
    element.append(...(Array.isArray(content) ? content : [content]));
    return element;
}

/* The first column heads its row. */
function makeTable(titles, rows, textColumns = []) {
    const cell = (text, column) => column === 0 ? make("th", {scope: "row"}, text)
        : make("td", textColumns.includes(column) ? {class: "text"} : {}, text);
    const head = make("tr", {}, titles.map((title, column) => make("th", {scope: "col",
        class: textColumns.includes(column) ? "text" : ""}, title)));
    const body = rows.map(row => make("tr", {}, row.map(cell)));
    return make("div", {class: "scroll"}, make("table", {}, [make("thead", {}, head),
        make("tbody", {}, body)]));
}

function makeFolded(title, content, isOpen = false) {
    return make("details", isOpen ? {open: ""} : {}, [make("summary", {}, title), content]);
}

function makeLines(lines) {
    return make("dl", {class: "lines"}, lines.map(([name, value]) =>
        make("div", {}, [make("dt", {}, name), make("dd", {}, value)])));
}

function makeSwatch(look) {
    const canvas = make("canvas", {width: 24, height: 12, "aria-hidden": "true"});
    fillLook(canvas.getContext("2d"), look, 0, 0, 24, 12);
    return canvas;
}

/* ---- The summary ---- */

function largestCause(side) {
    const sums = data.causes.map((_, cause) =>
        range(0, data.ranks).reduce((sum, rank) => sum + causeOf(side, rank, cause), 0));
    const cause = sums.indexOf(Math.max(...sums));
    return sums[cause] > 0 ? [data.causes[cause][0], sums[cause] / data.ranks / side.span] : null;
}

function summaryText() {
    const last = sides[sides.length - 1];
    const parts = [`${data.schedule} on ${data.ranks} ranks with ${data.stages} stages and `
        + `${data.microBatches} micro-batches, ${data.clock === "simulation" ? "a simulation"
            : `measured by the ${data.clock} clock`}.`];
    if (data.error) {
        const {predicted, measured} = data.error.span;
        const error = measured > 0 ? ` (${points(predicted / measured - 1)} %)` : "";
        parts.push(`The step was predicted to take ${time(predicted)} and took `
            + `${time(measured)}${error}; the mean bubble was predicted as `
            + `${percent(sides[0].bubbleRatio)} and was ${percent(last.bubbleRatio)}.`);
    } else {
        parts.push(`The step takes ${time(last.span)}; the mean bubble is `
            + `${percent(last.bubbleRatio)}.`);
    }
    const largest = largestCause(last);
    if (largest) {
        parts.push(`Its largest cause is ${largest[0]} with ${percent(largest[1])} of the step.`);
    }
    return parts.join(" ");
}

/* ---- Legends ---- */

function fillLegends() {
    const used = KINDS.filter((_, kind) => data.kind.includes(kind));
    document.getElementById("legend").append(...used.map(look =>
        make("li", {}, [makeSwatch(look), `${look.name}: ${look.text}`])));
    document.getElementById("cause-legend").append(...data.causes.map(([name, text], cause) =>
        make("li", {}, [makeSwatch(CAUSE_LOOKS[cause]), `${name}: ${text}`])));
}

/* ---- The error ---- */

const dash = "–";

function errorRow(name, form, predicted, parts, format, difference) {
    return [name, form === null ? dash : format(form), format(predicted),
        ...(parts ? [format(parts.measured), difference(parts.predicted - parts.measured),
            difference(parts.cost), difference(parts.wire), difference(parts.host),
            difference(parts.order)] : [])];
}

function fillError() {
    const side = sides[0], error = data.error, form = data.closedForm;
    const titles = ["", "closed form", "simulated"];
    /* What is left of two sums of some hundred numbers of 16 digits is no error. */
    const timeDifference = value => signed(time(Math.abs(value) < 1e-12 * side.span ? 0 : value));
    if (error) {
        titles.push("measured", "error", "of cost", "of wire", "of host", "of order");
    }
    const rows = [errorRow("step time", form && form.step, side.span, error && error.span, time,
        timeDifference), errorRow("mean bubble", form && form.bubbleRatio, side.bubbleRatio,
        error && error.bubbleRatio, percent, points)];
    for (let rank = 0; rank < data.ranks; rank++) {
        rows.push(errorRow(`bubble of rank ${rank}`, form && form.bubbleRatio,
            side.rankBubbleRatio[rank], error && error.rankBubbleRatio[rank], percent, points));
    }
    const place = document.getElementById("error");
    place.append(makeTable(titles, rows.slice(0, 18)));
    if (rows.length > 18) {
        place.append(makeFolded(`${rows.length - 18} more ranks`, makeTable(titles,
            rows.slice(18))));
    }
    const notes = [error ? "Errors of bubbles are in percentage points; cost, wire, host and order add "
        + `up to the error. Mean absolute error of a rank's bubble: ${(100
            * error.meanAbsolute).toFixed(2)} points.` : "Nothing was measured: this is a simulation."];
    if (form) {
        notes.push(`The closed form is ${form.exactness}${form.exactness === "exact"
            ? " for these costs" : `; exact where: ${form.condition}`}.`);
    }
    place.append(make("p", {}, notes.join(" ")));
}

/* ---- The ledger ---- */

function causeOf(side, rank, cause) {
    return side.ledger[rank * data.causes.length + cause];
}

function causesOf(side, rank) {
    return data.causes.map((_, cause) => causeOf(side, rank, cause));
}

/* One bar: causes one after the other, `most` seconds wide. */
function makeBar(side, rank, most) {
    const sec = causesOf(side, rank);
    const text = `rank ${rank} ${side.name}: bubble ${time(side.bubble[rank])}, `
        + `${percent(side.rankBubbleRatio[rank])}; ${causesText(sec) || "never idle"}`;
    const width = 1000;
    const canvas = make("canvas", {width, height: 14, role: "img", "aria-label": text, title: text});
    const draw = canvas.getContext("2d");
    let at = 0;
    sec.forEach((value, cause) => {
        const length = most > 0 ? Math.max(value, 0) / most * width : 0;
        fillLook(draw, CAUSE_LOOKS[cause], at, 0, length, 14);
        at += length;
    });
    return canvas;
}

function makeBars() {
    const most = Math.max(...sides.flatMap(side => side.bubble));
    const bars = make("div", {class: "bars"});
    for (let rank = 0; rank < data.ranks; rank++) {
        sides.forEach((side, i) => {
            const end = i === sides.length - 1 ? " last" : "";
            bars.append(make("span", {class: "rank" + end}, i === 0 ? `rank ${rank}` : ""),
                make("span", {class: "side" + end}, side.name), makeBar(side, rank, most),
                make("span", {class: "share" + end}, percent(side.rankBubbleRatio[rank])));
        });
    }
    return bars;
}

function ledgerTable(side) {
    const titles = ["rank", "bubble", ...data.causes.map(cause => cause[0])];
    const rows = range(0, data.ranks).map(rank => [String(rank), time(side.bubble[rank]),
        ...causesOf(side, rank).map(time)]);
    return makeTable(titles, rows);
}

function fillLedger() {
    const place = document.getElementById("ledger");
    place.append(makeBars());
    for (const side of sides) {
        place.append(makeFolded(`Numbers, ${side.name}`, ledgerTable(side)));
        const late = side.late.reduce((sum, value) => sum + value, 0);
        if (late > 0) {
            place.append(make("p", {}, `Of host, ${side.name}: ${time(late)} over all ranks passed `
                + "before the op was enqueued."));
        }
    }
}

/* ---- The critical path ---- */

/* Links that follow each other on one rank are one row; reasons[1] is the order on a rank. */
function pathRows(side) {
    const rows = [];
    let count = 0;
    side.path.forEach(([node, reason], i) => {
        count++;
        const next = side.path[i + 1];
        if (!next || next[1] !== 0) {
            const [first, why] = side.path[i + 1 - count];
            rows.push([time(side.start[first]), time(side.end[node]), String(count),
                nodeName(first), data.reasons[why + 1]]);
            count = 0;
        }
    });
    return rows;
}

function fillPath() {
    const place = document.getElementById("path");
    const most = 400;
    for (const side of sides) {
        const [compute, wire, wait] = side.pathParts.map(time);
        const rows = pathRows(side);
        const left = rows.length - most;
        const content = [makeTable(["from", "to", "links", "first", "reason"], rows.slice(0, most),
            [3, 4])];
        if (left > 0) {
            content.push(make("p", {}, `and ${left} more`));
        }
        place.append(makeFolded(`${side.name}: compute ${compute}, wire ${wire}, waits ${wait}; `
            + `${side.path.length} links`, make("div", {}, content)));
    }
}

function fillFacts() {
    const facts = [["schedule", data.schedule], ["clock", data.clock], ...data.facts];
    const place = document.getElementById("facts");
    place.className = "lines";
    place.append(...facts.flatMap(([name, value]) => [make("dt", {}, name),
        make("dd", {}, value)]));
}

document.getElementById("summary").textContent = summaryText();
fillLegends();
fillError();
fillLedger();
fillPath();
fillFacts();
