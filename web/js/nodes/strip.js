/**
 * A strip at the foot of a node that shows something and holds no value.
 *
 * It must leave no trace in a saved workflow: it has no entry in widgets_values, and the height that it adds to the
 * node is taken off again when the node is written. So a file is the same with and without this script, and showing
 * more or fewer lines does not count as a change.
 */

const MARGIN = 6;
/** What LiteGraph puts between widgets. */
const SPACING = 4;
const FRAMES = 20;

/**
 * @param node a LiteGraph node that is part of a graph
 * @param name unique among the node's widgets
 * @returns show(...elements), which replaces what the strip shows; without elements there is no strip
 */
export function addStrip(node, name) {
  const content = document.createElement("div");
  content.className = "kling-strip";
  const frame = document.createElement("div");
  frame.append(content);

  const alone = !node.widgets?.length;
  const writesValues = "widgets_values" in node.serialize();
  let widget = null;
  let height = 0;
  let added = 0;
  let settled = null;

  /** How high the node would be without the strip. */
  const bare = (whole) => (whole === settled?.whole ? settled.bare : whole - added);

  const resize = (to) => {
    node.setSize([node.size[0], to]);
    node.setDirtyCanvas?.(true, true);
  };

  const attach = () => {
    widget = node.addDOMWidget(name, name, frame, {
      serialize: false,
      hideInPanel: true,
      margin: MARGIN,
      getMinHeight: () => height,
      getMaxHeight: () => height,
      getValue: () => "",
      setValue: () => {},
    });
    widget.serialize = false;
    // Front ends before hideInPanel leave out of their side panel only what is for the canvas.
    if (!widget.visibility) {
      const get = () => !globalThis.LiteGraph?.vueNodesMode;
      Object.defineProperty(widget.options, "canvasOnly", { get, enumerable: true });
    }
  };

  const detach = () => {
    const was = bare(node.size[1]);
    node.removeWidget(widget);
    widget = settled = null;
    height = added = 0;
    resize(was);
  };

  /** Make room for what is shown; nothing is known of it while the node is out of sight. */
  const fit = () => {
    if (!widget || !content.offsetHeight) return;
    const wanted = content.offsetHeight + 2 * MARGIN;
    if (wanted === height) return;
    const was = bare(node.size[1]);
    height = wanted;
    // Text fields keep the height that they have; without any, the strip can use room that is free.
    added = alone ? Math.max(0, node.computeSize()[1] - was) : height + SPACING;
    resize(was + added);
    settled = { bare: was };
    settle(settled, FRAMES);
  };

  /** A node drawn with HTML takes the strip into room that it has to spare, and says so a few frames later. */
  const settle = (mine, frames) => {
    mine.whole = node.size[1];
    if (frames && mine === settled) requestAnimationFrame(() => settle(mine, frames - 1));
  };

  const { onSerialize } = node;
  node.onSerialize = function (data) {
    onSerialize?.apply(this, arguments);
    data.size = [data.size[0], bare(data.size[1])];
    if (!writesValues) {
      delete data.widgets_values;
      delete data.widgets_values_named;
    }
  };
  new ResizeObserver(fit).observe(content);

  return (...elements) => {
    content.replaceChildren(...elements);
    if (elements.length && !widget) attach();
    if (!elements.length && widget) detach();
  };
}
