/** The part of LiteGraph that the tests need: graphs, nodes, links and subgraphs. */

export class Graph {
  constructor(root = null) {
    this.rootGraph = root ?? this;
    this.nodes = [];
    this.links = new Map();
    if (root) root.subgraphs.set(root.subgraphs.size, this);
    else this.subgraphs = new Map();
  }

  /** @param inputs names or objects; @param widgets name to value */
  add(type, { inputs = [], outputs = ["*"], widgets = {}, ...more } = {}) {
    const graph = this;
    const node = {
      id: this.nodes.length + 1,
      type,
      graph,
      mode: 0,
      inputs: inputs.map((input) => (typeof input === "string" ? { name: input, type: "*" } : input)),
      outputs: outputs.map((kind) => ({ type: kind })),
      widgets: Object.entries(widgets).map(([name, value]) => ({ name, value })),
      getInputLink: (slot) => graph.into(node.id, slot),
      ...more,
    };
    this.nodes.push(node);
    return node;
  }

  shot(prompt, duration) {
    return this.add("KlingShot", { inputs: ["prompt", "duration"], widgets: { prompt, duration } });
  }

  board(...shots) {
    const node = this.add("KlingMultiShot", { inputs: [1, 2, 3, 4, 5, 6].map((i) => `shot_${i}`) });
    shots.forEach((shot, index) => shot && this.wire(shot, 0, node, index));
    return node;
  }

  wire(origin, originSlot, target, targetSlot) {
    const [origin_id, target_id] = [origin.id ?? origin, target.id ?? target];
    this.links.set(this.links.size + 1, {
      origin_id,
      origin_slot: originSlot,
      target_id,
      target_slot: targetSlot,
    });
  }

  into(id, slot) {
    return [...this.links.values()].find((link) => link.target_id === id && link.target_slot === slot) ?? null;
  }

  getNodeById(id) {
    return this.nodes.find((node) => node.id === id);
  }
}
