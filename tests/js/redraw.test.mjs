import assert from "node:assert/strict";
import { test } from "node:test";

import { redrawOnChange } from "../../web/js/nodes/redraw.js";

async function until(happened) {
  for (const end = Date.now() + 20_000; !happened(); ) {
    assert.ok(Date.now() < end, String(happened));
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

test("a node that fails keeps no other from being drawn, is tried again, and is reported once", async () => {
  const fail = () => {
    throw new Error("a widget of another pack");
  };
  const nodes = Object.fromEntries(["look", "draw", "json", "fine"].map((id) => [id, { id, graph: {} }]));
  const { error } = console;
  const reported = [];
  console.error = (...told) => reported.push(told.join(" "));
  try {
    let tries = 0;
    let shown = 1;
    const drawn = [];
    redrawOnChange(nodes.look, () => ((tries += 1) < 3 ? fail() : "works again"), (seen) => drawn.push(seen));
    redrawOnChange(nodes.draw, () => shown, fail);
    redrawOnChange(nodes.json, () => ({ nodes }), fail);
    nodes.nodes = nodes; // a ring, which JSON cannot hold
    redrawOnChange(nodes.fine, () => shown, (seen) => drawn.push(seen));
    await until(() => drawn.includes(1) && drawn.includes("works again"));
    shown = 2;
    await until(() => drawn.includes(2));
    assert.deepEqual(drawn.filter(Number.isFinite), [1, 2]);
    for (const id of ["look", "draw", "json"]) {
      assert.equal(reported.filter((line) => line.includes(`node ${id} cannot be drawn`)).length, 1, id);
    }
  } finally {
    console.error = error;
    // Without nodes the timer ends, and with it this process.
    for (const node of Object.values(nodes)) node.onRemoved?.();
  }
});
