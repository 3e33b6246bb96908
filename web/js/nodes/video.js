/** KlingVideo's strip: its progress while it waits for the video, or why it stopped, and what the video cost. */

import { shortUnits } from "../graph/price.js";
import { chargedLines, messageLines } from "./run_lines.js";
import { liveStrip } from "./strip.js";

export function addVideoStrip(node, { runs, text, language }) {
  const look = () => {
    const task = runs.output(node)?.kling?.[0] ?? null;
    return { message: withoutCharge(runs.message(node), task), task, language: language() };
  };
  liveStrip(node, "kling_waiting", look, ({ message, task }) => [...messageLines(message), ...chargedLines(task, text)]);
}

/** The message without what was charged, which has a line of its own here in the user's language. */
function withoutCharge(message, task) {
  if (!message || message.wrong || typeof task?.charged !== "number") return message;
  return { ...message, text: message.text.replace(`, ${shortUnits(task.charged)} units charged`, "") };
}
