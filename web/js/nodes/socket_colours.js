/** Colours of the sockets and links of the pack's own types. */

/** Contrast of at least 3:1 with the nodes of the dark and the light theme, and far from each other. */
export const COLOURS = {
  KLING_SHOT: "#d2691e",
  KLING_MULTI_SHOT: "#3a86e8",
  KLING_CAMERA_CONTROL: "#c95bc9",
};

/**
 * Give the types their colours.
 *
 * The front end clears the colour of every type that its palette does not name, at start and whenever the user
 * changes the theme. So a cleared entry gives our colour. A palette that names the type wins.
 *
 * @param tables objects from type to colour: the canvas's sockets, and LiteGraph's links
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

/** @returns the CSS variables with the same colours, for nodes drawn with HTML */
export function colourStyle() {
  const lines = Object.entries(COLOURS).map(([type, colour]) => `--color-datatype-${type}: ${colour};`);
  return `:root { ${lines.join(" ")} }`;
}
