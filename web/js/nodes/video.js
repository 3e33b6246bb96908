/** KlingVideo: what it waits for, or why it has stopped. */

import { drawWords } from "./runs.js";
import { addStrip } from "./strip.js";
import { watch } from "./redraw.js";

/** @param run {words}: gives what the node says of its run */
export function showWaiting(node, run) {
  let show = null;
  watch(node, () => run.words(node), (words) => {
    if (words !== null) show ??= addStrip(node, "kling_waiting");
    show?.(...drawWords(words));
  });
}
