/**
 * A strip at the foot of a node, which shows something and holds no value. It knows nothing of what it shows.
 *
 * A strip leaves no trace in a saved workflow. It has no entry in widgets_values, and the height that it adds is
 * subtracted when the node is saved. So the file is the same with and without this script, and a line more or less
 * does not count as a change.
 */

import { make } from "../page/dom.js";
import { redrawOnChange } from "./redraw.js";

const MARGIN = 6;
/** The gap that LiteGraph leaves between widgets. */
const SPACING = 4;
const FRAMES = 20;

/**
 * Show a strip that follows what it depends on. It is added with the first elements that there are to show.
 *
 * @param name unique among the node's widgets
 * @param look gives everything that the strip depends on, as a value that JSON can hold
 * @param draw turns that value into elements; with none there is no strip
 */
export function liveStrip(node, name, look, draw) {
  let show = null;
  redrawOnChange(node, look, (seen) => {
    const elements = draw(seen);
    if (elements.length) show ??= addStrip(node, name);
    show?.(...elements);
  });
}

/** @returns show(...elements), which replaces what the strip shows; without elements there is no strip */
function addStrip(node, name) {
  const content = make("div.kling-strip");
  const frame = make("div", {}, content);

  const alone = !node.widgets?.length;
  const writesValues = "widgets_values" in node.serialize();
  let widget = null;
  let height = 0;
  let added = 0;
  let settled = null;

  /** The node's height without the strip. */
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
    // Front ends that do not know hideInPanel leave only canvas widgets out of their side panel.
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

  /** Give the strip the height of its content, which is 0 while the node is out of view. */
  const fit = () => {
    if (!widget || !content.offsetHeight) return;
    const wanted = content.offsetHeight + 2 * MARGIN;
    if (wanted === height) return;
    const was = bare(node.size[1]);
    height = wanted;
    // Text areas keep their height. In a node without widgets, the strip uses the free room first.
    added = alone ? Math.max(0, node.computeSize()[1] - was) : height + SPACING;
    resize(was + added);
    settled = { bare: was };
    settle(settled, FRAMES);
  };

  /** A node drawn with HTML puts the strip into its free room, and has its final height some frames later. */
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
