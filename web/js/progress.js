/**
 * The line that a node shows while it waits, moved from ComfyUI's own widget into our strip.
 *
 * ComfyUI shows progress text in a widget that it adds to the node. Before front end 1.40 that widget was saved with
 * the workflow, text and all, and in every version it makes the node higher for good.
 */

const HOSTS_WIDGET = "$$node-text-preview";

/**
 * @param api ComfyUI's api object
 * @param findNode gives the node of an execution id such as `5`, or `7:5` in a subgraph
 * @param isOurs tells nodes that have a strip
 * @returns lineOf(node): the line, or null when there is none
 */
export function followProgress(api, findNode, isOurs) {
  let texts = new WeakMap();

  api.addEventListener("progress_text", ({ detail }) => {
    const node = findNode(detail.nodeId);
    if (!node || !isOurs(node)) return;
    texts.set(node, detail.text);
    // ComfyUI adds its widget in the same event, before or after this.
    queueMicrotask(() => dropHostsWidget(node));
  });
  for (const event of ["execution_start", "execution_error", "execution_interrupted"]) {
    api.addEventListener(event, () => {
      texts = new WeakMap();
    });
  }
  return (node) => texts.get(node) ?? null;
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
