/*
 * The drawing: rows of ranks on one time axis, on a canvas as large as the visible part of #view. Only
 * rows and ops in view are drawn, and of ops narrower than a pixel one for each pixel.
 */
const GUTTER = 84, AXIS = 24, HEAD = 22, THIN = 4, MOST_ZOOM = 1e7;

/* The first of `nodes`, sorted by start, that may reach beyond `from`. */
function firstFrom(nodes, side, from) {
    let low = 0, high = nodes.length;
    while (low < high) {
        const middle = (low + high) >> 1;
        if (side.start[nodes[middle]] < from) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    while (low > 0 && side.end[nodes[low - 1]] > from) {
        low--;
    }
    return low;
}

/* 1, 2 or 5 times a power of ten, at least `least`. */
function niceStep(least) {
    const power = 10 ** Math.floor(Math.log10(least));
    return [1, 2, 5, 10].map(factor => factor * power).find(step => step >= least) ?? 10 * power;
}

class Timeline {
    constructor(view, canvas, spacer) {
        Object.assign(this, {view, canvas, spacer, draw: canvas.getContext("2d")});
        this.options = {path: false, transfers: true, held: true, pairs: false};
        this.selected = null;
        this.textWidths = new Map();
        this.first = 0;
        this.last = Math.max(...sides.map(side => side.span));
        if (!(this.last > this.first)) {
            this.last = this.first + 1;
        }
        this.compute = data.ranks > 16 ? 14 : 20;
        this.readTheme();
        this.reset();
        this.layOut();
    }

    readTheme() {
        const style = getComputedStyle(document.documentElement);
        this.theme = Object.fromEntries(["back", "text", "dim", "line", "row", "mark", "focus"]
            .map(name => [name, style.getPropertyValue("--" + name).trim()]));
    }

    /* ---- Rows ---- */

    addRow(type, height, more) {
        this.rows.push({type, top: this.height, height, ...more});
        this.height += height;
    }

    rankHeight(rank) {
        const lanes = this.options.transfers ? sides[0].channels[rank].length : 0;
        return this.compute + 4 + lanes * THIN + (lanes > 0 ? 2 : 0);
    }

    layOut() {
        this.rows = [];
        this.height = AXIS;
        const addRank = (side, rank, label) =>
            this.addRow("rank", this.rankHeight(rank), {side, rank, label});
        if (this.options.pairs) {
            for (let rank = 0; rank < data.ranks; rank++) {
                sides.forEach(side => addRank(side, rank, `rank ${rank} ${side.name.slice(0, 4)}.`));
                this.height += 4;
            }
        } else {
            for (const side of sides) {
                this.addRow("head", HEAD, {label: `${side.name}: ${time(side.span)}, bubble `
                    + percent(side.bubbleRatio)});
                range(0, data.ranks).forEach(rank => addRank(side, rank, `rank ${rank}`));
            }
        }
        if (this.options.held) {
            this.addRow("head", HEAD, {label: "activations held, saved sets"
                + (sides.length > 1 ? "; area predicted, line measured" : "")});
            range(0, data.ranks).forEach(rank => this.addRow("held", this.compute + 8,
                {rank, label: `rank ${rank}`}));
        }
        this.height += 4;
        this.resize();
    }

    /* The canvas is sticky: it covers the visible part, and the spacer makes up the height. */
    resize() {
        this.width = this.view.clientWidth;
        this.view.style.height = `${this.height + 2}px`;
        this.shown = Math.min(this.height, this.view.clientHeight);
        const ratio = window.devicePixelRatio || 1;
        this.canvas.width = Math.round(this.width * ratio);
        this.canvas.height = Math.round(this.shown * ratio);
        this.canvas.style.width = `${this.width}px`;
        this.canvas.style.height = `${this.shown}px`;
        this.spacer.style.height = `${this.height - this.shown}px`;
        this.ratio = ratio;
        this.request();
    }

    /* ---- Time ---- */

    get scale() {
        return (this.width - GUTTER) / (this.to - this.from);
    }

    xOf(sec) {
        return GUTTER + (sec - this.from) * this.scale;
    }

    secOf(x) {
        return this.from + (x - GUTTER) / this.scale;
    }

    setRange(from, to) {
        const whole = this.last - this.first;
        const length = Math.min(Math.max(to - from, whole / MOST_ZOOM), whole);
        this.from = Math.min(Math.max(from, this.first), this.last - length);
        this.to = this.from + length;
        this.request();
    }

    reset() {
        this.from = this.first;
        this.to = this.last;
        this.request();
    }

    /* Keeps the time under x where it is. */
    zoom(factor, x = GUTTER + (this.width - GUTTER) / 2) {
        const sec = Math.min(Math.max(this.secOf(x), this.from), this.to);
        this.setRange(sec - (sec - this.from) / factor, sec + (this.to - sec) / factor);
    }

    pan(pixels) {
        const sec = pixels / this.scale;
        this.setRange(this.from + sec, this.to + sec);
    }

    /* ---- Drawing ---- */

    request() {
        if (!this.requested) {
            this.requested = true;
            requestAnimationFrame(() => {
                this.requested = false;
                this.paint();
            });
        }
    }

    paint() {
        const draw = this.draw;
        const scroll = this.view.scrollTop;
        draw.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
        draw.fillStyle = this.theme.back;
        draw.fillRect(0, 0, this.width, this.shown);
        draw.save();
        draw.translate(0, -scroll);
        draw.font = "11px system-ui, sans-serif";
        draw.textBaseline = "middle";
        for (const row of this.rows) {
            if (row.top + row.height >= scroll && row.top <= scroll + this.shown) {
                this.paintRow(row);
            }
        }
        this.clipToTime(scroll);
        if (this.options.path) {
            this.paintPathArrows();
        }
        if (this.selected) {
            this.paintSelection();
        }
        draw.restore();
        this.paintAxis();
        this.view.dataset.from = this.from;
        this.view.dataset.to = this.to;
    }

    clipToTime(top) {
        this.draw.beginPath();
        this.draw.rect(GUTTER, top, this.width - GUTTER, this.shown);
        this.draw.clip();
    }

    paintAxis() {
        const draw = this.draw;
        draw.font = "11px system-ui, sans-serif";
        draw.textBaseline = "middle";
        draw.fillStyle = this.theme.back;
        draw.fillRect(0, 0, this.width, AXIS - 1);
        draw.fillStyle = this.theme.dim;
        draw.strokeStyle = this.theme.line;
        draw.beginPath();
        draw.moveTo(0, AXIS - 0.5);
        draw.lineTo(this.width, AXIS - 0.5);
        const step = niceStep(90 / this.scale);
        for (let tick = Math.ceil(this.from / step); tick * step <= this.to; tick++) {
            const x = this.xOf(tick * step);
            draw.moveTo(x, AXIS - 6);
            draw.lineTo(x, AXIS);
            draw.fillText(time(tick * step), Math.min(x + 3, this.width - 40), AXIS / 2 - 1);
        }
        draw.stroke();
    }

    paintRow(row) {
        const draw = this.draw;
        draw.fillStyle = row.type === "head" ? this.theme.text : this.theme.dim;
        if (row.type === "head") {
            draw.fillText(row.label, 4, row.top + row.height / 2 + 2);
            return;
        }
        const middle = row.type === "rank" ? this.compute / 2 + 2 : row.height / 2;
        draw.fillText(row.label, 4, row.top + middle);
        draw.save();
        this.clipToTime(row.top - this.shown / 2);
        if (row.type === "held") {
            this.paintHeld(row);
        } else {
            this.paintRank(row);
        }
        draw.restore();
    }

    paintRank(row) {
        const {side, rank} = row;
        const draw = this.draw;
        draw.fillStyle = this.theme.row;
        draw.fillRect(GUTTER, row.top + 2, this.width - GUTTER, this.compute);
        this.paintNodes(side, side.ops[rank], row.top + 2, this.compute);
        if (this.options.transfers) {
            side.channels[rank].forEach((nodes, lane) => this.paintNodes(side, nodes,
                row.top + this.compute + 3 + lane * THIN, THIN - 1));
        }
    }

    paintNodes(side, nodes, y, height) {
        let painted = -1;
        for (let i = firstFrom(nodes, side, this.from); i < nodes.length; i++) {
            const node = nodes[i];
            const left = this.xOf(side.start[node]);
            if (left > this.width) {
                break;
            }
            const right = this.xOf(side.end[node]);
            if (Math.floor(right) > painted) {
                this.paintNode(side, node, left, Math.max(right, left + 1), y, height);
                painted = Math.floor(right);
            }
        }
    }

    paintNode(side, node, left, right, y, height) {
        const draw = this.draw;
        const from = Math.max(left, GUTTER - 2);
        const width = Math.min(right, this.width + 2) - from;
        const isOnPath = this.options.path && side.onPath.has(node);
        const isDimmed = this.options.path && !isOnPath;
        draw.globalAlpha = isDimmed ? 0.3 : 1;
        fillLook(draw, KINDS[data.kind[node]], from, y, width, height);
        draw.globalAlpha = 1;
        if (width > 3 && !isTransfer(node)) {
            draw.fillStyle = this.theme.back;
            draw.fillRect(right - 0.5, y, 0.5, height);
        }
        if (isOnPath) {
            draw.strokeStyle = this.theme.mark;
            draw.lineWidth = isTransfer(node) ? 1 : 2;
            draw.strokeRect(from + 1, y + 1, Math.max(width - 2, 1), height - 2);
        }
        this.paintLabel(node, from, width, y + height / 2 + 0.5, isDimmed);
    }

    paintLabel(node, from, width, y, isDimmed) {
        if (isTransfer(node) || width < 12) {
            return;
        }
        const whole = shortName(node);
        const text = [whole, KINDS[data.kind[node]].name].find(candidate =>
            this.textWidth(candidate) + 4 <= width);
        if (text) {
            /* Black is at least 6 to 1 on all kinds' colours. */
            this.draw.fillStyle = isDimmed ? this.theme.dim : "#000000";
            this.draw.fillText(text, from + 2, y);
        }
    }

    textWidth(text) {
        if (!this.textWidths.has(text)) {
            this.textWidths.set(text, this.draw.measureText(text).width);
        }
        return this.textWidths.get(text);
    }

    heldPath(points, row, most) {
        const y = sets => row.top + row.height - 2 - sets / most * (row.height - 6);
        const draw = this.draw;
        let at = y(0);
        draw.beginPath();
        draw.moveTo(this.xOf(this.first), at);
        for (let i = 0; i < points.length; i += 2) {
            const x = this.xOf(points[i]);
            draw.lineTo(x, at);
            at = y(points[i + 1]);
            draw.lineTo(x, at);
        }
        draw.lineTo(this.xOf(this.last), at);
    }

    paintHeld(row) {
        const draw = this.draw;
        const most = Math.max(1, ...sides.map(side => side.peak[row.rank]));
        draw.fillStyle = this.theme.row;
        draw.fillRect(GUTTER, row.top, this.width - GUTTER, row.height - 1);
        this.heldPath(sides[0].held[row.rank], row, most);
        draw.fillStyle = "rgb(86 180 233 / 55%)";
        draw.fill();
        if (sides.length > 1) {
            this.heldPath(sides[1].held[row.rank], row, most);
            draw.strokeStyle = "#d55e00";
            draw.lineWidth = 1.2;
            draw.stroke();
        }
        draw.fillStyle = this.theme.text;
        draw.fillText(`peak ${sides.map(side => side.peak[row.rank]).join(", ")}`, GUTTER + 4,
            row.top + 7);
    }

    /* ---- What is marked ---- */

    rowOf(side, rank) {
        return this.rows.find(row => row.type === "rank" && row.side === side && row.rank === rank);
    }

    /* From the sender's row to the receiver's. */
    paintArrow(side, node) {
        const draw = this.draw;
        const [from, to] = [this.rowOf(side, data.rank[node]), this.rowOf(side, data.peer[node])];
        const [x0, x1] = [this.xOf(side.start[node]), this.xOf(side.end[node])];
        const [y0, y1] = [from, to].map(row => row.top + 2 + this.compute / 2);
        const angle = Math.atan2(y1 - y0, x1 - x0);
        draw.strokeStyle = draw.fillStyle = this.theme.mark;
        draw.lineWidth = 1.5;
        draw.beginPath();
        draw.moveTo(x0, y0);
        draw.lineTo(x1, y1);
        draw.stroke();
        draw.beginPath();
        draw.moveTo(x1, y1);
        for (const turn of [-0.4, 0.4]) {
            draw.lineTo(x1 - 7 * Math.cos(angle + turn), y1 - 7 * Math.sin(angle + turn));
        }
        draw.fill();
    }

    paintPathArrows() {
        for (const side of sides) {
            for (const [node] of side.path) {
                if (isTransfer(node) && side.end[node] >= this.from && side.start[node] <= this.to) {
                    this.paintArrow(side, node);
                }
            }
        }
    }

    paintSelection() {
        const {side, node, idle} = this.selected;
        const draw = this.draw;
        const box = this.boxOf(this.selected);
        draw.strokeStyle = this.theme.focus;
        draw.lineWidth = 3;
        draw.strokeRect(box.x - 1, box.y - 1, Math.max(box.width, 2) + 2, box.height + 2);
        const release = (idle ?? side.idleByOp.get(node))?.release ?? -1;
        if (release >= 0 && isTransfer(release)) {
            this.paintArrow(side, release);
        }
        if (node !== undefined && isTransfer(node)) {
            this.paintArrow(side, node);
        }
    }

    /* ---- Where things are; y from the top of all rows ---- */

    boxOf(thing) {
        const {side, node, idle} = thing;
        const row = this.rowOf(side, idle ? idle.rank : data.rank[node]);
        const [start, end] = idle ? [idle.start, idle.end] : [side.start[node], side.end[node]];
        const x = this.xOf(start);
        const box = {x, y: row.top + 2, width: this.xOf(end) - x, height: this.compute};
        if (!idle && isTransfer(node)) {
            const lane = side.channels[row.rank].findIndex(nodes => nodes.includes(node));
            box.y = row.top + this.compute + 3 + lane * THIN;
            box.height = THIN - 1;
        }
        return box;
    }

    /* What is at a point of the canvas, or null. A pixel beside a thing counts as on it. */
    hit(x, y) {
        const at = y + this.view.scrollTop;
        const row = this.rows.find(each => at >= each.top && at < each.top + each.height);
        if (!row || row.type !== "rank" || x < GUTTER || y < AXIS) {
            return null;
        }
        const {side, rank} = row;
        const lane = Math.floor((at - row.top - this.compute - 2.5) / THIN);
        if (lane >= 0 && this.options.transfers) {
            return lane < side.channels[rank].length
                ? this.hitNodes(side, side.channels[rank][lane], x) : null;
        }
        return this.hitNodes(side, side.ops[rank], x) ?? this.hitIdle(side, rank, x);
    }

    hitNodes(side, nodes, x) {
        const [from, to] = [this.secOf(x - 1), this.secOf(x + 1)];
        const sec = this.secOf(x);
        let best = null;
        for (let i = firstFrom(nodes, side, from); i < nodes.length; i++) {
            const node = nodes[i];
            if (side.start[node] > to) {
                break;
            }
            if (best === null || (side.start[node] <= sec && side.end[node] > sec)) {
                best = node;
            }
        }
        if (best === null || side.end[best] < from) {
            return null;
        }
        const isInside = side.start[best] <= sec && side.end[best] > sec;
        const isNarrow = duration(side, best) * this.scale < 3;
        return isInside || isNarrow ? {side, node: best} : null;
    }

    hitIdle(side, rank, x) {
        const sec = this.secOf(x);
        const idle = side.idleByRank[rank].find(each => each.start <= sec && sec < each.end);
        return idle ? {side, idle} : null;
    }

    /* ---- Choosing ---- */

    select(thing) {
        this.selected = thing;
        this.view.dataset.selected = !thing ? "" : `${thing.side.name} `
            + (thing.idle ? `idle ${thing.idle.rank}` : opName(thing.node));
        this.request();
    }

    /* Moves the view so that a thing can be seen. */
    reveal(thing) {
        const box = this.boxOf(thing);
        if (box.x < GUTTER || box.x + box.width > this.width) {
            this.pan(box.x + box.width / 2 - (GUTTER + this.width) / 2);
        }
        if (box.y - AXIS < this.view.scrollTop) {
            this.view.scrollTop = box.y - AXIS - 4;
        } else if (box.y + box.height > this.view.scrollTop + this.shown) {
            this.view.scrollTop = box.y + box.height - this.shown + 8;
        }
    }
}
