/** Everything in a KlingText2Video that decides what its task costs. */

import { sourceNode, UNKNOWN, widgetValue } from "./input_values.js";
import { connectedShots, timeline } from "./timeline.js";

/**
 * @param shots the limits of a storyboard, from GET /kling/models
 * @returns {model_name, mode, sound, seconds}; UNKNOWN if only a run would tell; null if the storyboard has a mistake
 */
export function tariffOf(node, shots) {
  const seconds = secondsOf(node, shots);
  if (seconds === null) return null;
  const [model_name, mode, sound] = ["model_name", "mode", "sound"].map((name) => widgetValue(node, name));
  return [model_name, mode, sound, seconds].includes(UNKNOWN) ? UNKNOWN : { model_name, mode, sound, seconds };
}

function secondsOf(node, limits) {
  const board = sourceNode(node, "multi_shot");
  if (board === null) return widgetValue(node, "duration");
  if (board === UNKNOWN || board.type !== "KlingMultiShot") return UNKNOWN;
  const { shots, total, problems } = timeline(connectedShots(board, limits.max), limits);
  const wrong = !shots.length || problems.length || shots.some((shot) => shot.problems.includes("duration"));
  return wrong ? null : (total ?? UNKNOWN);
}
