/**
 * Looks at nodes a few times a second and redraws what has changed.
 *
 * What a node shows depends on widgets, wires and other nodes, in this graph and in others. There is no event for
 * all of that, and hooks into foreign nodes would break them; looking costs a few microseconds.
 */

const EVERY_MS = 150;

const watched = new Map();
let timer = null;

/**
 * @param node a LiteGraph node; it is forgotten when it is removed
 * @param look gives, as something JSON can write, all that the picture depends on
 * @param draw is called with it at first and whenever it has changed
 */
export function watch(node, look, draw) {
  watched.set(node, { look, draw, last: null });
  const { onRemoved } = node;
  node.onRemoved = function () {
    watched.delete(this);
    onRemoved?.apply(this, arguments);
  };
  timer ??= setInterval(lookAtAll, EVERY_MS);
}

function lookAtAll() {
  if (!watched.size) {
    clearInterval(timer);
    timer = null;
  }
  for (const [node, entry] of watched) {
    // A node that is being loaded has no graph yet, and its strip would change the size it is loaded with.
    if (!node.graph) continue;
    const seen = entry.look();
    const text = JSON.stringify(seen);
    if (text === entry.last) continue;
    entry.last = text;
    entry.draw(seen);
  }
}
