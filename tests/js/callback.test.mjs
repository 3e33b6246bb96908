import assert from "node:assert/strict";
import { test } from "node:test";

import { reportedTo } from "../../web/js/graph/callback.js";
import { UNKNOWN } from "../../web/js/graph/input_values.js";
import { Graph } from "./litegraph.mjs";

const sender = (graph, callback_url) =>
  graph.add("KlingText2Video", { inputs: ["callback_url"], widgets: { callback_url } });
const host = (url) => reportedTo(sender(new Graph(), url));

test("the host of the address is told before a run", () => {
  assert.equal(host("https://me:secret@Hooks.Example:8443/in?a=1"), "hooks.example");
  assert.equal(host(" http://hooks.example@evil.example/ "), "evil.example");
  // A letter of another alphabet must not make it look like a host that the user knows.
  assert.equal(host("http://kling\u0430.example/"), "xn--kling-8ve.example");
});

test("without an address nothing is told", () => {
  for (const nothing of ["", "  ", null]) assert.equal(host(nothing), null);
});

test("what is no address is shown as it is, and never at length", () => {
  assert.equal(host("evil.example/in"), "evil.example/in");
  assert.equal(host("mailto:evil"), "mailto:evil");
  assert.equal(host("x".repeat(5000)).length, 60);
});

test("an address from another node is known if the node only gives a value", () => {
  const graph = new Graph();
  const [constant, computed] = [graph.add("PrimitiveString", { widgets: { value: "https://a.example" } }), graph.add("Join")];
  const nodes = [sender(graph, ""), sender(graph, "https://unused.example")];
  graph.wire(constant, 0, nodes[0], 0);
  graph.wire(computed, 0, nodes[1], 0);
  assert.deepEqual(nodes.map(reportedTo), ["a.example", UNKNOWN]);
});
