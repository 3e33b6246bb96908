/** KlingVideo: what it waits for. */

import { addStrip } from "./strip.js";
import { drawProgress } from "./submission.js";
import { watch } from "./watch.js";

/** @param run {line}: gives what the node says during a run */
export function showWaiting(node, run) {
  let show = null;
  watch(node, () => run.line(node), (line) => {
    if (line !== null) show ??= addStrip(node, "kling_waiting");
    show?.(...drawProgress(line));
  });
}
