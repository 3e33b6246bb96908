/**
 * What a node says of its run: the line that it shows while it waits, or why it has stopped.
 *
 * The line is moved from ComfyUI's own widget into our strip.
 * ComfyUI shows progress text in a widget that it adds to the node. Before front end 1.40 that widget was saved with
 * the workflow, text and all, and in every version it makes the node higher for good.
 */

import { make } from "../page/dom.js";

const HOSTS_WIDGET = "$$node-text-preview";

/**
 * Not every front end shows what went wrong in full, and a dialog is gone when it is closed.
 *
 * @param api ComfyUI's api object
 * @param findNode gives the node of an execution id such as `5`, or `7:5` in a subgraph
 * @param isOurs tells nodes that have a strip
 * @returns wordsOf(node): {text, wrong: whether it is an error}, or null when there is nothing to say
 */
export function followProgress(api, findNode, isOurs) {
  let words = new WeakMap();
  const note = (id, text, wrong) => {
    const node = findNode(id);
    if (!node || !isOurs(node)) return null;
    words.set(node, { text, wrong });
    return node;
  };

  api.addEventListener("progress_text", ({ detail }) => {
    const node = note(detail.nodeId, detail.text, false);
    // ComfyUI adds its widget in the same event, before or after this.
    if (node) queueMicrotask(() => dropHostsWidget(node));
  });
  for (const event of ["execution_start", "execution_error", "execution_interrupted"]) {
    api.addEventListener(event, () => {
      words = new WeakMap();
    });
  }
  api.addEventListener("execution_error", ({ detail }) => {
    if (detail.exception_message) note(detail.node_id, detail.exception_message.trim(), true);
  });
  return (node) => words.get(node) ?? null;
}

/** @returns the elements that show what `wordsOf` gives */
export function drawWords(words) {
  return words === null ? [] : [make(words.wrong ? "div.kling-line.kling-wrong.kling-why" : "div.kling-line", words.text)];
}

function dropHostsWidget(node) {
  const widget = node.widgets?.find(({ name }) => name === HOSTS_WIDGET);
  if (widget) node.removeWidget(widget);
}

/** @returns the node that an execution id names, or undefined */
export function nodeByExecutionId(root, id) {
  return String(id)
    .split(":")
    .reduce((found, part) => {
      const graph = found === root ? root : found?.subgraph;
      return graph?.getNodeById(part) ?? graph?.getNodeById(Number(part)) ?? undefined;
    }, root);
}
