/**
 * Where an input's value comes from: through reroutes, subgraph borders, bypassed and primitive nodes.
 *
 * It reads LiteGraph's objects, changes nothing, and knows nothing of the page.
 */

/** A value that is known only in a run, because a node computes it. */
export const UNKNOWN = Symbol("unknown");

const SUBGRAPH_INPUT = "-10";
const SUBGRAPH_OUTPUT = "-20";
const MUTED = 2;
const BYPASSED = 4;
const HOPS_MAX = 100;

/** ComfyUI's nodes that give the value of their first widget, and nothing else. */
const PRIMITIVES = new Set([
  "PrimitiveNode",
  "PrimitiveInt",
  "PrimitiveFloat",
  "PrimitiveString",
  "PrimitiveStringMultiline",
  "PrimitiveBoolean",
]);

/**
 * The node that feeds an input.
 * @returns the node; null if nothing arrives (not connected, or muted); UNKNOWN if only a run would tell
 */
export function sourceNode(node, name) {
  const end = follow(node, slotOf(node, name), 0);
  return end === null || end === UNKNOWN ? end : (end.node ?? null);
}

/**
 * The value that a widget will have in a run: its own, or that of the node linked to it.
 * @returns the value, or UNKNOWN
 */
export function widgetValue(node, name) {
  return valueOf(node, name, 0);
}

/** @param primitives how many primitive nodes were passed: they can be linked in a ring */
function valueOf(node, name, primitives) {
  const slot = slotOf(node, name);
  if (!linkInto(node, slot)) return own(findWidget(node, name));
  const end = follow(node, slot, 0);
  if (end === null || end === UNKNOWN) return UNKNOWN;
  if (end.host) return own(end.widget);
  if (!PRIMITIVES.has(end.node.type) || primitives > HOPS_MAX) return UNKNOWN;
  const first = end.node.widgets?.[0];
  return first ? valueOf(end.node, first.name, primitives + 1) : UNKNOWN;
}

/** Whether an input is connected to a node that is not muted. */
export function isConnected(node, name) {
  return sourceNode(node, name) !== null;
}

export function findInput(node, name) {
  return node.inputs?.find((input) => input.name === name);
}

export function findWidget(node, name) {
  return node.widgets?.find((widget) => widget.name === name);
}

function slotOf(node, name) {
  return node.inputs?.findIndex((input) => input.name === name) ?? -1;
}

function linkInto(node, slot) {
  return slot < 0 || !node.inputs?.[slot] ? null : node.getInputLink(slot);
}

function own(widget) {
  return widget === undefined ? UNKNOWN : widget.value;
}

/**
 * Follow a link upstream.
 * @returns null, UNKNOWN, {node} that gives the value, or {host, widget}: an unconnected input of a subgraph's node
 */
function follow(node, slot, hops) {
  return fromLink(node.graph, linkInto(node, slot), hops);
}

function fromLink(graph, link, hops) {
  if (!link) return null;
  if (hops > HOPS_MAX) return UNKNOWN;
  if (String(link.origin_id) === SUBGRAPH_INPUT) return outOfSubgraph(graph, link.origin_slot, hops + 1);
  const origin = graph.getNodeById(link.origin_id);
  if (!origin || origin.mode === MUTED) return null;
  if (origin.mode === BYPASSED) return throughBypass(origin, link.origin_slot, hops + 1);
  if (origin.type === "Reroute") return follow(origin, 0, hops + 1);
  if (origin.subgraph) return intoSubgraph(origin.subgraph, link.origin_slot, hops + 1);
  return { node: origin };
}

/** A bypassed node passes on its first connected input of the output's type. */
function throughBypass(node, slot, hops) {
  const type = node.outputs?.[slot]?.type;
  const passed = node.inputs?.findIndex((input, index) => input.type === type && linkInto(node, index)) ?? -1;
  return follow(node, passed, hops);
}

function intoSubgraph(subgraph, slot, hops) {
  const arriving = linksOf(subgraph).find(
    (link) => String(link.target_id) === SUBGRAPH_OUTPUT && link.target_slot === slot,
  );
  return fromLink(subgraph, arriving, hops);
}

function outOfSubgraph(subgraph, slot, hops) {
  const hosts = allNodes(subgraph.rootGraph ?? subgraph).filter((node) => node.subgraph === subgraph);
  // A subgraph that is used in several places can have a different value in each.
  if (hosts.length !== 1) return UNKNOWN;
  const [host] = hosts;
  if (linkInto(host, slot)) return follow(host, slot, hops);
  const input = host.inputs?.[slot];
  const widget = input?._widget ?? (input?.widget && findWidget(host, input.widget.name));
  return widget ? { host, widget } : null;
}

function allNodes(root) {
  const inside = [...(root.subgraphs?.values() ?? [])];
  return [root, ...inside].flatMap((graph) => graph.nodes ?? []);
}

function linksOf(graph) {
  const links = graph.links ?? [];
  return typeof links.values === "function" ? [...links.values()] : Object.values(links);
}
