/**
 * What the page hears about runs: each node's progress line or error, and its output. It draws nothing.
 *
 * ComfyUI shows a progress line in a widget that it adds to the node, and never gives the node its old height back.
 * Front ends before 1.40 also save that widget with the workflow. Our nodes have a strip for the line, so the widget
 * is removed from them.
 */

const HOST_WIDGET = "$$node-text-preview";

/**
 * @param api ComfyUI's api object, which sends the events
 * @param app ComfyUI's app object, for its graph and outputs
 * @param hasStrip tells nodes whose strip shows their messages
 * @returns {{message: function, output: function}} message(node) gives {text, wrong: whether it is an error} or null;
 *   output(node) gives what the node's last run returned to the page, or undefined. Neither survives a reload.
 */
export function followRuns(api, app, hasStrip) {
  let messages = new WeakMap();
  const note = (id, text, wrong) => {
    const node = nodeByExecutionId(rootGraph(app), id);
    if (!node || !hasStrip(node)) return null;
    messages.set(node, { text, wrong });
    return node;
  };

  api.addEventListener("progress_text", ({ detail }) => {
    const node = note(detail.nodeId, detail.text, false);
    // ComfyUI adds its widget in the same event, before or after this.
    if (node) queueMicrotask(() => removeHostWidget(node));
  });
  for (const event of ["execution_start", "execution_error", "execution_interrupted"]) {
    api.addEventListener(event, () => {
      messages = new WeakMap();
    });
  }
  // Some front ends shorten the error, and a dialog is gone once it is closed.
  api.addEventListener("execution_error", ({ detail }) => {
    if (detail.exception_message) note(detail.node_id, detail.exception_message.trim(), true);
  });

  return {
    message: (node) => messages.get(node) ?? null,
    output: (node) => app.nodeOutputs?.[outputId(node)],
  };
}

function rootGraph(app) {
  return app.rootGraph ?? app.graph;
}

/** The front end keeps outputs by node id, in a subgraph with the subgraph's id before it. */
function outputId({ graph, id }) {
  const inSubgraph = graph.isRootGraph === false || (graph.rootGraph && graph.rootGraph !== graph);
  return inSubgraph ? `${graph.id}:${id}` : id;
}

function removeHostWidget(node) {
  const widget = node.widgets?.find(({ name }) => name === HOST_WIDGET);
  if (widget) node.removeWidget(widget);
}

/**
 * @param id such as `5`, or `7:5` for node 5 in the subgraph of node 7
 * @returns the node, or undefined
 */
export function nodeByExecutionId(root, id) {
  return String(id)
    .split(":")
    .reduce((found, part) => {
      const graph = found === root ? root : found?.subgraph;
      return graph?.getNodeById(part) ?? graph?.getNodeById(Number(part)) ?? undefined;
    }, root);
}
