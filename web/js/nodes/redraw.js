/**
 * Redraws what nodes show when it has changed.
 *
 * What a node shows depends on widgets, links and other nodes, in this graph and in others. No event covers all of
 * that, and hooks into other packs' nodes could break them. So each node is checked a few times a second, which takes
 * microseconds.
 */

const INTERVAL_MS = 150;

const watched = new Map();
let timer = null;

/**
 * @param node a LiteGraph node; it is forgotten when it is removed
 * @param look gives everything that the picture depends on, as a value that JSON can hold
 * @param draw is called with that value, at first and after each change
 */
export function redrawOnChange(node, look, draw) {
  watched.set(node, { look, draw, last: null, reported: false });
  const { onRemoved } = node;
  node.onRemoved = function () {
    watched.delete(this);
    onRemoved?.apply(this, arguments);
  };
  timer ??= setInterval(checkAll, INTERVAL_MS);
}

function checkAll() {
  if (!watched.size) {
    clearInterval(timer);
    timer = null;
  }
  for (const [node, entry] of watched) {
    try {
      check(node, entry);
    } catch (error) {
      // One node that fails must not keep the others from being drawn. It is tried again, but reported once.
      if (!entry.reported) console.error(`Kling: node ${node.id} cannot be drawn.`, error);
      entry.reported = true;
    }
  }
}

function check(node, entry) {
  // A node that is being loaded has no graph yet. A strip would change the size that the file gives it.
  if (!node.graph) return;
  const seen = entry.look();
  const json = JSON.stringify(seen);
  if (json === entry.last) return;
  entry.last = json;
  entry.draw(seen);
}
