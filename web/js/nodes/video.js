/** KlingVideo's strip: its progress while it waits for the video, or why it stopped. */

import { messageLines } from "./run_lines.js";
import { liveStrip } from "./strip.js";

export function addVideoStrip(node, { runs }) {
  liveStrip(node, "kling_waiting", () => runs.message(node), messageLines);
}
