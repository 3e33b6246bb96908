/** Colours of the sockets and wires that carry this pack's own types. */

/** Each stands out (3:1) from the nodes of the dark theme and of the light one, and from the others. */
export const COLOURS = {
  KLING_SHOT: "#d2691e",
  KLING_MULTI_SHOT: "#3a86e8",
  KLING_CAMERA_CONTROL: "#c95bc9",
};

/**
 * Give the types their colours.
 *
 * The front end clears the colour of every type that its palette does not know, at start and whenever the user
 * changes the theme. So each entry answers with ours while it is cleared; a palette that names the type wins.
 *
 * @param tables objects from type to colour: a canvas's sockets, and LiteGraph's wires
 */
export function colourTables(tables) {
  for (const table of tables.filter(Boolean)) {
    for (const [type, colour] of Object.entries(COLOURS)) {
      let chosen = table[type];
      Object.defineProperty(table, type, {
        get: () => chosen || colour,
        set: (value) => {
          chosen = value;
        },
        enumerable: true,
        configurable: true,
      });
    }
  }
}

/** The same for nodes that are drawn with HTML, which read CSS variables. */
export function colourStyle() {
  const lines = Object.entries(COLOURS).map(([type, colour]) => `--color-datatype-${type}: ${colour};`);
  return `:root { ${lines.join(" ")} }`;
}
