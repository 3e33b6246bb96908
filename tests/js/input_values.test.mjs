import assert from "node:assert/strict";
import { test } from "node:test";

import { isConnected, sourceNode, UNKNOWN, widgetValue } from "../../web/js/graph/input_values.js";
import { Graph } from "./litegraph.mjs";

const INPUT = -10;
const OUTPUT = -20;

test("an unconnected widget gives its own value", () => {
  const shot = new Graph().shot("a cat", 4);
  assert.equal(widgetValue(shot, "prompt"), "a cat");
  assert.equal(widgetValue(shot, "nothing of the kind"), UNKNOWN);
});

test("a link from a primitive node gives that node's value", () => {
  for (const type of ["PrimitiveNode", "PrimitiveInt"]) {
    const graph = new Graph();
    const shot = graph.shot("", 4);
    graph.wire(graph.add(type, { widgets: { value: 9, control_after_generate: "fixed" } }), 0, shot, 1);
    assert.equal(widgetValue(shot, "duration"), 9, type);
  }
});

test("a primitive node that is connected itself is followed further", () => {
  const graph = new Graph();
  const shot = graph.shot("", 4);
  const near = graph.add("PrimitiveInt", { inputs: ["value"], widgets: { value: 1 } });
  graph.wire(graph.add("PrimitiveInt", { widgets: { value: 7 } }), 0, near, 0);
  graph.wire(near, 0, shot, 1);
  assert.equal(widgetValue(shot, "duration"), 7);
});

test("what another node computes is not known before the run", () => {
  const graph = new Graph();
  const shot = graph.shot("", 4);
  graph.wire(graph.add("MathExpression", { widgets: { expression: "1+1" } }), 0, shot, 1);
  assert.equal(widgetValue(shot, "duration"), UNKNOWN);
});

test("any number of reroutes is followed", () => {
  const graph = new Graph();
  const shot = graph.shot("a", 1);
  let last = shot;
  for (let i = 0; i < 3; i += 1) {
    const reroute = graph.add("Reroute", { inputs: [""] });
    graph.wire(last, 0, reroute, 0);
    last = reroute;
  }
  const board = graph.board(last);
  assert.equal(sourceNode(board, "shot_1"), shot);
});

test("an unconnected reroute is no source", () => {
  const graph = new Graph();
  assert.equal(sourceNode(graph.board(graph.add("Reroute", { inputs: [""] })), "shot_1"), null);
});

test("links in a ring give unknown, not an endless loop", () => {
  const graph = new Graph();
  const [one, two] = [graph.add("Reroute", { inputs: [""] }), graph.add("Reroute", { inputs: [""] })];
  graph.wire(one, 0, two, 0);
  graph.wire(two, 0, one, 0);
  assert.equal(sourceNode(graph.board(one), "shot_1"), UNKNOWN);
});

test("primitive nodes in a ring give unknown, and a long chain of them its value", () => {
  const graph = new Graph();
  const shot = graph.shot("", 4);
  const ring = [1, 2].map((value) => graph.add("PrimitiveInt", { inputs: ["value"], widgets: { value } }));
  graph.wire(ring[0], 0, ring[1], 0);
  graph.wire(ring[1], 0, ring[0], 0);
  graph.wire(ring[0], 0, shot, 1);
  assert.equal(widgetValue(shot, "duration"), UNKNOWN);

  const other = graph.shot("", 4);
  let last = graph.add("PrimitiveInt", { widgets: { value: 7 } });
  for (let i = 0; i < 50; i += 1) {
    const next = graph.add("PrimitiveInt", { inputs: ["value"], widgets: { value: 0 } });
    graph.wire(last, 0, next, 0);
    last = next;
  }
  graph.wire(last, 0, other, 1);
  assert.equal(widgetValue(other, "duration"), 7);
});

test("muted and bypassed shots count as not connected", () => {
  for (const mode of [2, 4]) {
    const graph = new Graph();
    const shot = graph.shot("a", 1);
    shot.mode = mode;
    assert.equal(isConnected(graph.board(shot), "shot_1"), false);
  }
});

test("a bypassed node passes on its input of the same type", () => {
  const graph = new Graph();
  const shot = graph.shot("a", 1);
  const filter = graph.add("ShotFilter", {
    inputs: [
      { name: "strength", type: "INT" },
      { name: "shot", type: "KLING_SHOT" },
    ],
    outputs: ["KLING_SHOT"],
    mode: 4,
  });
  graph.wire(shot, 0, filter, 1);
  assert.equal(sourceNode(graph.board(filter), "shot_1"), shot);
});

test("a shot inside a subgraph is found from outside", () => {
  const root = new Graph();
  const inner = new Graph(root);
  const shot = inner.shot("inside", 6);
  inner.wire(shot, 0, OUTPUT, 0);
  const host = root.add("uuid", { subgraph: inner, outputs: ["KLING_SHOT"] });
  assert.equal(sourceNode(root.board(host), "shot_1"), shot);
});

test("a shot outside is found from inside the subgraph", () => {
  const root = new Graph();
  const inner = new Graph(root);
  const board = inner.board();
  inner.wire(INPUT, 0, board, 0);
  const host = root.add("uuid", { subgraph: inner, inputs: ["shot_1"] });
  const shot = root.shot("outside", 2);
  root.wire(shot, 0, host, 0);
  assert.equal(sourceNode(board, "shot_1"), shot);
});

test("an input that a subgraph does not connect outside is not connected", () => {
  const root = new Graph();
  const inner = new Graph(root);
  const board = inner.board();
  inner.wire(INPUT, 0, board, 0);
  root.add("uuid", { subgraph: inner, inputs: ["shot_1"] });
  assert.equal(sourceNode(board, "shot_1"), null);
});

test("a widget promoted to the subgraph's node gives the value", () => {
  const root = new Graph();
  const inner = new Graph(root);
  const shot = inner.shot("own", 2);
  inner.wire(INPUT, 0, shot, 0);
  root.add("uuid", {
    subgraph: inner,
    inputs: [{ name: "prompt", type: "STRING", widget: { name: "prompt" } }],
    widgets: { prompt: "promoted" },
  });
  assert.equal(widgetValue(shot, "prompt"), "promoted");
});

test("inside a subgraph that is used twice, outside values are unknown", () => {
  const root = new Graph();
  const inner = new Graph(root);
  const board = inner.board();
  inner.wire(INPUT, 0, board, 0);
  root.add("uuid", { subgraph: inner, inputs: ["shot_1"] });
  root.add("uuid", { subgraph: inner, inputs: ["shot_1"] });
  assert.equal(sourceNode(board, "shot_1"), UNKNOWN);
});
