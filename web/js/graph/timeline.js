/** A storyboard's timeline: when each shot plays, and what is wrong with it. */

import { sourceNode, UNKNOWN, widgetValue } from "./input_values.js";

/**
 * The shots that a KlingMultiShot will get, in playing order; inputs without a shot are left out.
 * @returns {{socket: number, prompt: string|symbol, duration: number|symbol}[]}
 */
export function connectedShots(node, most) {
  const shots = [];
  for (let socket = 1; socket <= most; socket += 1) {
    const shot = sourceNode(node, `shot_${socket}`);
    if (shot === null) continue;
    const known = shot !== UNKNOWN && shot.type === "KlingShot";
    shots.push({
      socket,
      prompt: known ? widgetValue(shot, "prompt") : UNKNOWN,
      duration: known ? widgetValue(shot, "duration") : UNKNOWN,
    });
  }
  return shots;
}

/** Whether nothing in a text is visible, as is_blank in wording.py. Python counts more separators as space than \s does. */
export function isBlank(text) {
  return /^[\s\p{Cf}\x1c-\x1f\x85]*$/u.test(text);
}

/**
 * Lay the shots end to end.
 *
 * A value that only a run would tell is null in the result, and so is every time after it.
 *
 * @param shots as from connectedShots
 * @param limits {prompt_max, shortest, longest}, from GET /kling/models
 * @returns {{shots: {socket, start, end, seconds, characters, problems: string[]}[], total: number|null,
 *   problems: string[]}} problems are `blank`, `long` and `duration` of a shot, `short` and `long` of the whole
 */
export function timeline(shots, limits) {
  let start = 0;
  const placed = shots.map(({ socket, prompt, duration }) => {
    const seconds = typeof duration === "number" ? duration : null;
    const end = start === null || seconds === null ? null : start + seconds;
    // Python and Kling count code points; length would count a surrogate pair as two.
    const characters = typeof prompt === "string" ? [...prompt].length : null;
    const problems = [];
    if (characters !== null && isBlank(prompt)) problems.push("blank");
    if (characters !== null && characters > limits.prompt_max) problems.push("long");
    if (seconds !== null && !(Number.isInteger(seconds) && seconds >= 1)) problems.push("duration");
    const shot = { socket, start, end, seconds, characters, problems };
    start = end;
    return shot;
  });
  const problems = [];
  // The known shots alone can be too long already.
  const known = placed.reduce((sum, shot) => sum + (shot.seconds ?? 0), 0);
  if (shots.length && start !== null && start < limits.shortest) problems.push("short");
  if (known > limits.longest) problems.push("long");
  return { shots: placed, total: start, problems };
}
