/** KlingMultiShot: its timeline, live while the user edits. */

import { make } from "../page/dom.js";
import { addStrip } from "./strip.js";
import { connectedShots, timeline } from "../graph/timeline.js";
import { watch } from "./redraw.js";

/** A new node is wide enough for its lines; one from a file gets its own size after this. */
const WIDTH = 300;

export function showTimeline(node, facts, text, language) {
  node.setSize([Math.max(node.size[0], WIDTH), node.size[1]]);
  let show = null;
  const look = () => ({ ...timeline(connectedShots(node, facts.shots.max), facts.shots), language: language() });
  watch(node, look, (board) => {
    show ??= addStrip(node, "kling_timeline");
    show(...draw(board, facts.shots, text));
  });
}

function draw(board, limits, text) {
  if (!board.shots.length) return [make("div.kling-line.kling-dim", text("timeline.empty"))];
  return [bar(board), ...board.shots.map((shot, index) => row(shot, index + 1, limits, text)), sum(board, limits, text)];
}

function bar(board) {
  const parts = board.shots.map((shot, index) => {
    const part = make("div.kling-part", String(index + 1));
    part.style.flexGrow = String(Math.max(shot.seconds ?? 3, 1));
    part.classList.toggle("kling-wrong", shot.problems.length > 0);
    part.classList.toggle("kling-unknown", shot.seconds === null);
    return part;
  });
  return make("div.kling-bar", {}, ...parts);
}

function row(shot, number, limits, text) {
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

function sum(board, limits, text) {
  const total = text("timeline.total", { total: board.total ?? "?" });
  const wrong = board.problems.length > 0;
  const line = make(`div.kling-line.kling-total`, wrong ? `${total} ${text("timeline.range", limits)}` : total);
  line.classList.toggle("kling-wrong", wrong);
  return line;
}
