import assert from "node:assert/strict";
import { test } from "node:test";

import { followProgress, nodeByExecutionId } from "../../web/js/nodes/runs.js";
import { Graph } from "./litegraph.mjs";

function setUp() {
  const api = new EventTarget();
  const graph = new Graph();
  const node = graph.add("KlingVideo", {
    widgets: { task_id: "" },
    removeWidget: (widget) => node.widgets.splice(node.widgets.indexOf(widget), 1),
  });
  const wordsOf = followProgress(api, (id) => nodeByExecutionId(graph, id), ({ type }) => type.startsWith("Kling"));
  const tell = (name, detail) => api.dispatchEvent(Object.assign(new Event(name), { detail }));
  return { graph, node, wordsOf, tell };
}

test("a node's line is what it said last", () => {
  const { node, wordsOf, tell } = setUp();
  assert.equal(wordsOf(node), null);
  tell("progress_text", { nodeId: "1", text: "waiting" });
  tell("progress_text", { nodeId: "1", text: "processing" });
  assert.deepEqual(wordsOf(node), { text: "processing", wrong: false });
});

test("a new run, an error and Cancel end the line", () => {
  for (const end of ["execution_start", "execution_error", "execution_interrupted"]) {
    const { node, wordsOf, tell } = setUp();
    tell("progress_text", { nodeId: "1", text: "waiting" });
    tell(end, {});
    assert.equal(wordsOf(node), null, end);
  }
});

test("an error stands on the node that met it until the next run", () => {
  const { graph, node, wordsOf, tell } = setUp();
  const other = graph.add("SomeNode");
  tell("progress_text", { nodeId: "1", text: "processing" });
  tell("execution_error", { node_id: "1", exception_message: "The task has failed.\n" });
  assert.deepEqual(wordsOf(node), { text: "The task has failed.", wrong: true });
  tell("execution_start", {});
  assert.equal(wordsOf(node), null);
  tell("execution_error", { node_id: String(other.id), exception_message: "Out of memory" });
  assert.equal(wordsOf(node), null);
  assert.equal(wordsOf(other), null);
});

test("ComfyUI's own widget goes from our nodes, whoever hears the event first, and from no others", async () => {
  const { graph, node, wordsOf, tell } = setUp();
  const other = graph.add("SomeNode", { widgets: { $$node_text: "" } });
  for (const each of [node, other]) {
    tell("progress_text", { nodeId: String(each.id), text: "waiting" });
    each.widgets.push({ name: "$$node-text-preview", value: "waiting" });
  }
  await Promise.resolve();
  assert.deepEqual(node.widgets.map(({ name }) => name), ["task_id"]);
  assert.equal(other.widgets.length, 2);
  assert.equal(wordsOf(other), null);
});

test("an execution id names a node in a subgraph by its way there", () => {
  const root = new Graph();
  const inner = new Graph(root);
  const deep = inner.add("KlingVideo");
  const host = root.add("uuid", { subgraph: inner });
  assert.equal(nodeByExecutionId(root, `${host.id}:${deep.id}`), deep);
  assert.equal(nodeByExecutionId(root, host.id), host);
  assert.equal(nodeByExecutionId(root, "99"), undefined);
  assert.equal(nodeByExecutionId(root, "99:1"), undefined);
});
