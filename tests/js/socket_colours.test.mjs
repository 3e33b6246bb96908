import assert from "node:assert/strict";
import { test } from "node:test";

import { COLOURS, colourStyle, colourTables } from "../../web/js/nodes/socket_colours.js";

const NODES = { dark: "#353535", "dark, drawn with HTML": "#262729", light: "#f5f5f5", white: "#ffffff" };

function channels(colour) {
  return [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
}

function luminance(colour) {
  const [r, g, b] = channels(colour).map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function contrast(one, other) {
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}

test("every colour stands out from the nodes of both themes", () => {
  for (const [type, colour] of Object.entries(COLOURS)) {
    for (const [theme, node] of Object.entries(NODES)) {
      assert.ok(contrast(colour, node) >= 3, `${type} on ${theme}: ${contrast(colour, node).toFixed(2)}`);
    }
  }
});

test("the colours are far apart", () => {
  const all = Object.values(COLOURS).map(channels);
  for (const [i, one] of all.entries()) {
    for (const other of all.slice(i + 1)) {
      assert.ok(Math.hypot(...one.map((c, k) => c - other[k])) > 120);
    }
  }
});

test("colours survive the front end clearing what its palette does not know", () => {
  const table = { IMAGE: "#64b5f6" };
  colourTables([table, undefined]);
  assert.equal(table.KLING_SHOT, COLOURS.KLING_SHOT);
  Object.assign(table, { KLING_SHOT: "", IMAGE: "#123456" });
  assert.equal(table.KLING_SHOT, COLOURS.KLING_SHOT);
  assert.equal(table.IMAGE, "#123456");
});

test("a palette that names one of the types wins", () => {
  const table = { KLING_MULTI_SHOT: "#abcdef" };
  colourTables([table]);
  assert.equal(table.KLING_MULTI_SHOT, "#abcdef");
  Object.assign(table, { KLING_MULTI_SHOT: "#fedcba" });
  assert.equal(table.KLING_MULTI_SHOT, "#fedcba");
});

test("nodes drawn with HTML find the same colours", () => {
  for (const [type, colour] of Object.entries(COLOURS)) {
    assert.ok(colourStyle().includes(`--color-datatype-${type}: ${colour};`));
  }
});
