import assert from "node:assert/strict";
import { test } from "node:test";

import { followRuns, nodeByExecutionId } from "../../web/js/nodes/runs.js";
import { Graph } from "./litegraph.mjs";

function setUp() {
  const api = new EventTarget();
  const graph = new Graph();
  const node = graph.add("KlingVideo", {
    widgets: { task_id: "" },
    removeWidget: (widget) => node.widgets.splice(node.widgets.indexOf(widget), 1),
  });
  const app = { graph };
  const { message, output } = followRuns(api, app, ({ type }) => type.startsWith("Kling"));
  const tell = (name, detail) => api.dispatchEvent(Object.assign(new Event(name), { detail }));
  return { app, graph, node, message, output, tell };
}

test("a node's message is its last one", () => {
  const { node, message, tell } = setUp();
  assert.equal(message(node), null);
  tell("progress_text", { nodeId: "1", text: "waiting" });
  tell("progress_text", { nodeId: "1", text: "processing" });
  assert.deepEqual(message(node), { text: "processing", wrong: false });
});

test("a new run, an error and Cancel clear the message", () => {
  for (const end of ["execution_start", "execution_error", "execution_interrupted"]) {
    const { node, message, tell } = setUp();
    tell("progress_text", { nodeId: "1", text: "waiting" });
    tell(end, {});
    assert.equal(message(node), null, end);
  }
});

test("an error stays on its node until the next run", () => {
  const { graph, node, message, tell } = setUp();
  const other = graph.add("SomeNode");
  tell("progress_text", { nodeId: "1", text: "processing" });
  tell("execution_error", { node_id: "1", exception_message: "The task has failed.\n" });
  assert.deepEqual(message(node), { text: "The task has failed.", wrong: true });
  tell("execution_start", {});
  assert.equal(message(node), null);
  tell("execution_error", { node_id: String(other.id), exception_message: "Out of memory" });
  assert.equal(message(node), null);
  assert.equal(message(other), null);
});

test("ComfyUI's own widget is removed from our nodes, whoever hears the event first, and from no others", async () => {
  const { graph, node, message, tell } = setUp();
  const other = graph.add("SomeNode", { widgets: { $$node_text: "" } });
  for (const each of [node, other]) {
    tell("progress_text", { nodeId: String(each.id), text: "waiting" });
    each.widgets.push({ name: "$$node-text-preview", value: "waiting" });
  }
  await Promise.resolve();
  assert.deepEqual(node.widgets.map(({ name }) => name), ["task_id"]);
  assert.equal(other.widgets.length, 2);
  assert.equal(message(other), null);
});

test("a node's output is found, in the root graph and in a subgraph", () => {
  const { app, graph, node, output } = setUp();
  assert.equal(output(node), undefined);
  const inner = Object.assign(new Graph(graph), { id: "uuid" });
  const deep = inner.add("KlingVideo");
  app.nodeOutputs = { [node.id]: "outer", [`uuid:${deep.id}`]: "inner" };
  assert.equal(output(node), "outer");
  assert.equal(output(deep), "inner");
});

test("an execution id names a node in a subgraph by its path", () => {
  const root = new Graph();
  const inner = new Graph(root);
  const deep = inner.add("KlingVideo");
  const host = root.add("uuid", { subgraph: inner });
  assert.equal(nodeByExecutionId(root, `${host.id}:${deep.id}`), deep);
  assert.equal(nodeByExecutionId(root, host.id), host);
  assert.equal(nodeByExecutionId(root, "99"), undefined);
  assert.equal(nodeByExecutionId(root, "99:1"), undefined);
});
