/* Mouse and keyboard. */
const view = document.getElementById("view");
const details = document.getElementById("details");
const tip = document.getElementById("tip");
const timeline = new Timeline(view, document.getElementById("canvas"),
    document.getElementById("spacer"));

/* ---- Choosing ---- */

function choose(thing, isRevealed) {
    timeline.select(thing);
    details.replaceChildren(...(thing ? [makeLines(describe(thing))] : []));
    if (thing && isRevealed) {
        timeline.reveal(thing);
    }
}

/* The ops of a rank around the chosen thing, in a side's order. */
function step(by) {
    const {side, node, idle} = timeline.selected;
    const op = idle ? idle.op : node;
    if (op === undefined || op < 0) {
        return;
    }
    const list = isTransfer(op)
        ? side.channels[data.rank[op]].find(nodes => nodes.includes(op)) : side.ops[data.rank[op]];
    const next = list[list.indexOf(op) + by];
    if (next !== undefined) {
        choose({side, node: next}, true);
    }
}

/* The op of another rank that runs when the chosen one does. */
function changeRank(by) {
    const {side, node, idle} = timeline.selected;
    const rank = (idle ? idle.rank : data.rank[node]) + by;
    if (rank < 0 || rank >= data.ranks || side.ops[rank].length === 0) {
        return;
    }
    const ops = side.ops[rank];
    const at = firstFrom(ops, side, idle ? idle.start : side.start[node]);
    choose({side, node: ops[Math.min(at, ops.length - 1)]}, true);
}

function chooseFirst() {
    for (const row of timeline.rows) {
        if (row.type === "rank" && row.top + row.height > view.scrollTop + AXIS) {
            const ops = row.side.ops[row.rank];
            const at = firstFrom(ops, row.side, timeline.from);
            if (at < ops.length) {
                choose({side: row.side, node: ops[at]}, true);
                return;
            }
        }
    }
}

function chooseOther() {
    const {side, node} = timeline.selected;
    if (otherSide(side) && node !== undefined) {
        choose({side: otherSide(side), node}, true);
    }
}

/* ---- The mouse ---- */

/* Where an event is on the canvas. */
function place(event) {
    const box = timeline.canvas.getBoundingClientRect();
    return {x: event.clientX - box.left, y: event.clientY - box.top};
}

function showTip(event, thing) {
    tip.hidden = !thing;
    if (!thing) {
        return;
    }
    tip.replaceChildren(makeLines(describe(thing)));
    const box = tip.getBoundingClientRect();
    const x = Math.min(event.clientX + 14, window.innerWidth - box.width - 8);
    const isLow = event.clientY + 18 + box.height > window.innerHeight;
    tip.style.left = `${Math.max(x, 0)}px`;
    tip.style.top = `${Math.max(isLow ? event.clientY - box.height - 12 : event.clientY + 18, 0)}px`;
}

let drag = null;

view.addEventListener("pointerdown", event => {
    if (event.button === 0 && event.target === timeline.canvas) {
        drag = {x: event.clientX, y: event.clientY, moved: 0};
        view.setPointerCapture(event.pointerId);
    }
});

view.addEventListener("pointermove", event => {
    if (!drag) {
        const {x, y} = place(event);
        showTip(event, event.target === timeline.canvas ? timeline.hit(x, y) : null);
        return;
    }
    const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
    drag.moved += Math.abs(dx) + Math.abs(dy);
    if (drag.moved > 3) {
        view.classList.add("dragging");
        tip.hidden = true;
        timeline.pan(-dx);
        view.scrollTop -= dy;
        [drag.x, drag.y] = [event.clientX, event.clientY];
    }
});

view.addEventListener("pointerup", event => {
    if (drag && drag.moved <= 3) {
        const {x, y} = place(event);
        choose(timeline.hit(x, y), false);
    }
    drag = null;
    view.classList.remove("dragging");
});

view.addEventListener("pointercancel", () => {
    drag = null;
    view.classList.remove("dragging");
});

view.addEventListener("pointerleave", () => {
    tip.hidden = true;
});

/* The wheel zooms, with Shift or sideways it moves, with Alt it scrolls the ranks. */
view.addEventListener("wheel", event => {
    event.preventDefault();
    tip.hidden = true;
    const pixels = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
    const [dx, dy] = [event.deltaX * pixels, event.deltaY * pixels];
    if (event.altKey) {
        view.scrollTop += dy;
    } else if (event.shiftKey || Math.abs(dx) > Math.abs(dy)) {
        timeline.pan(dx + (event.shiftKey ? dy : 0));
    } else {
        timeline.zoom(Math.exp(-dy / 300), place(event).x);
    }
}, {passive: false});

view.addEventListener("scroll", () => timeline.request());

/* ---- The keyboard ---- */

const pathBox = document.getElementById("show-path");

const keys = {
    "+": () => timeline.zoom(1.5),
    "=": () => timeline.zoom(1.5),
    "-": () => timeline.zoom(1 / 1.5),
    "0": () => timeline.reset(),
    "Home": () => timeline.reset(),
    "ArrowLeft": () => timeline.pan(-120),
    "ArrowRight": () => timeline.pan(120),
    "ArrowUp": () => { view.scrollTop -= 60; },
    "ArrowDown": () => { view.scrollTop += 60; },
    "Enter": chooseFirst,
    "Escape": () => choose(null, false),
    "c": () => pathBox.click(),
};
/* These need something chosen, and else choose the first. */
const keysFromChosen = {
    "n": () => step(1),
    "p": () => step(-1),
    "j": () => changeRank(1),
    "k": () => changeRank(-1),
    "m": chooseOther,
};

view.addEventListener("keydown", event => {
    const action = keys[event.key] ?? (keysFromChosen[event.key] && !timeline.selected
        ? chooseFirst : keysFromChosen[event.key]);
    if (action && !event.ctrlKey && !event.metaKey && !event.altKey) {
        event.preventDefault();
        action();
    }
});

/* ---- The toolbar ---- */

const buttons = {
    "zoom-in": keys["+"],
    "zoom-out": keys["-"],
    "pan-left": keys.ArrowLeft,
    "pan-right": keys.ArrowRight,
    "reset": keys["0"],
};
for (const [id, action] of Object.entries(buttons)) {
    document.getElementById(id).addEventListener("click", action);
}

/* Of many ranks a timeline is longer than a screen; then each rank's own are together. */
document.getElementById("pair-ranks").checked = sides.length > 1 && data.ranks > 16;
const boxes = {"show-path": "path", "show-transfers": "transfers", "show-held": "held",
    "pair-ranks": "pairs"};
for (const [id, option] of Object.entries(boxes)) {
    const box = document.getElementById(id);
    timeline.options[option] = box.checked; /* as the browser remembers it */
    box.addEventListener("change", () => {
        timeline.options[option] = box.checked;
        timeline.layOut();
    });
}
document.getElementById("pair-label").hidden = sides.length === 1;

new ResizeObserver(() => timeline.resize()).observe(view);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    timeline.readTheme();
    timeline.request();
});
timeline.layOut();
