/* Colours and patterns of the kinds of ops and of the causes of idleness. */

/*
 * Colours that the colour-blind can tell apart: Okabe and Ito, "Color Universal Design" (2008). Kinds
 * also differ by pattern, so that they do in grey.
 */
const KINDS = [
    {name: "F", text: "forward", colour: "#56b4e9", pattern: "none"},
    {name: "B", text: "backward", colour: "#e69f00", pattern: "rising"},
    {name: "I", text: "backward for the input", colour: "#f0e442", pattern: "upright"},
    {name: "W", text: "backward for the weights", colour: "#009e73", pattern: "dots"},
    {name: "F&B", text: "forward and backward, overlapped", colour: "#cc79a7", pattern: "falling"},
    {name: "act", text: "activation moving", colour: "#0072b2", pattern: "none"},
    {name: "grad", text: "gradient moving", colour: "#d55e00", pattern: "none"},
];
/* Of fill, drain, dependency, straggler, wire, buffer, host. */
const CAUSE_LOOKS = [
    {colour: "#bdbdbd", pattern: "none"}, {colour: "#7f7f7f", pattern: "none"},
    {colour: "#0072b2", pattern: "rising"}, {colour: "#d55e00", pattern: "upright"},
    {colour: "#f0e442", pattern: "none"}, {colour: "#cc79a7", pattern: "dots"},
    {colour: "#e69f00", pattern: "falling"},
];

const patternTiles = {
    rising: draw => { draw.moveTo(0, 8); draw.lineTo(8, 0); draw.moveTo(-2, 2); draw.lineTo(2, -2);
        draw.moveTo(6, 10); draw.lineTo(10, 6); },
    falling: draw => { draw.moveTo(0, 0); draw.lineTo(8, 8); draw.moveTo(-2, 6); draw.lineTo(2, 10);
        draw.moveTo(6, -2); draw.lineTo(10, 2); },
    upright: draw => { draw.moveTo(4, 0); draw.lineTo(4, 8); },
    dots: draw => { draw.moveTo(3, 4); draw.lineTo(5, 4); },
};

function makePattern(name) {
    const tile = document.createElement("canvas");
    tile.width = tile.height = 8;
    const draw = tile.getContext("2d");
    draw.strokeStyle = "rgb(0 0 0 / 28%)";
    draw.lineWidth = name === "dots" ? 2 : 1.3;
    draw.beginPath();
    patternTiles[name](draw);
    draw.stroke();
    return draw.createPattern(tile, "repeat");
}

const patterns = Object.fromEntries(Object.keys(patternTiles).map(name => [name, makePattern(name)]));

function fillLook(draw, look, x, y, width, height) {
    draw.fillStyle = look.colour;
    draw.fillRect(x, y, width, height);
    if (look.pattern !== "none" && width > 5) {
        draw.fillStyle = patterns[look.pattern];
        draw.fillRect(x, y, width, height);
    }
}
