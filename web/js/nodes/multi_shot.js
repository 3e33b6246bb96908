/** KlingMultiShot's strip: the timeline of its shots, live while the user edits. */

import { connectedShots, timeline } from "../graph/timeline.js";
import { make } from "../page/dom.js";
import { liveStrip } from "./strip.js";

/** Wide enough for the timeline's lines. A node from a file gets the file's size after this. */
const NEW_NODE_WIDTH = 300;

export function addMultiShotStrip(node, { facts, text, language }) {
  node.setSize([Math.max(node.size[0], NEW_NODE_WIDTH), node.size[1]]);
  const look = () => ({ ...timeline(connectedShots(node, facts.shots.max), facts.shots), language: language() });
  liveStrip(node, "kling_timeline", look, (storyboard) => draw(storyboard, facts.shots, text));
}

function draw(storyboard, limits, text) {
  const { shots } = storyboard;
  if (!shots.length) return [make("div.kling-line.kling-dim", text("timeline.empty"))];
  return [bar(shots), ...shots.map((shot, index) => shotLine(shot, index + 1, limits, text)), totalLine(storyboard, limits, text)];
}

function bar(shots) {
  const parts = shots.map((shot, index) => {
    const part = make("div.kling-part", String(index + 1));
    part.style.flexGrow = String(Math.max(shot.seconds ?? 3, 1));
    part.classList.toggle("kling-wrong", shot.problems.length > 0);
    part.classList.toggle("kling-unknown", shot.seconds === null);
    return part;
  });
  return make("div.kling-bar", {}, ...parts);
}

function shotLine(shot, number, limits, text) {
  const seconds = `${shot.start ?? "?"}–${shot.end ?? "?"} s`;
  const problems = shot.problems.map((problem) =>
    text(`timeline.${problem}`, { over: shot.characters - limits.prompt_max }),
  );
  const line = make(
    "div.kling-line",
    { title: `shot_${shot.socket}` },
    make("span.kling-number", text("timeline.shot", { number })),
    make("span.kling-seconds", seconds),
    make("span.kling-count", `${shot.characters ?? "?"}/${limits.prompt_max}`),
  );
  if (problems.length) line.append(make("span", problems.join(" ")));
  line.classList.toggle("kling-wrong", problems.length > 0);
  return line;
}

function totalLine({ total, problems }, limits, text) {
  const words = text("timeline.total", { total: total ?? "?" });
  const wrong = problems.length > 0;
  const line = make("div.kling-line.kling-total", wrong ? `${words} ${text("timeline.range", limits)}` : words);
  line.classList.toggle("kling-wrong", wrong);
  return line;
}
