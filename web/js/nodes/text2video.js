/** KlingText2Video: what does not apply to the chosen model, what it waits for, and after a run the task_id. */

import { copyText, make } from "../page/dom.js";
import { findInput, findWidget, isWired, UNKNOWN, widgetValue } from "../graph/input_values.js";
import { marks } from "../graph/input_marks.js";
import { drawWords } from "./runs.js";
import { addStrip } from "./strip.js";
import { watch } from "./redraw.js";

const READ = ["model_name", "mode", "duration", "sound"];
const SOCKETS = ["camera_control", "multi_shot"];
const VEIL = 0.55;

/**
 * @param run {output, words}: give what the node showed after its last run, and what it says of this one
 */
export function showSubmission(node, facts, text, language, run) {
  let show = null;
  let unused = new Set();
  const look = () => {
    const values = Object.fromEntries(
      READ.map((name) => [name, widgetValue(node, name)]).filter(([, value]) => value !== UNKNOWN),
    );
    const found = marks(facts, values, new Set(SOCKETS.filter((name) => isWired(node, name))));
    const task = run.output(node)?.kling?.[0] ?? null;
    const words = run.words(node);
    // Its last words are the task_id, which then stands here anyway.
    const says = task && words && !words.wrong && words.text.includes(task.task_id) ? null : words;
    return { ...found, model: values.model_name, task, says, language: language() };
  };
  watch(node, look, (seen) => {
    unused = new Set(seen.unused.flatMap((group) => group.inputs));
    dimText(node, "prompt", unused.has("prompt"));
    show ??= addStrip(node, "kling_submission");
    show(...drawMarks(node, seen, text), ...drawWords(seen.says), ...drawTask(seen.task, text));
    node.setDirtyCanvas?.(true, false);
  });
  veil(node, () => unused);
}

function drawMarks(node, seen, text) {
  const lines = seen.unused.map(({ by, inputs }) => {
    const names = inputs.map((name) => shownName(node, name)).join(text("marks.comma"));
    return make("div.kling-line.kling-dim", `⊘ ${text(`marks.unused_by_${by}`, { model: seen.model, inputs: names })}`);
  });
  for (const { key, values } of seen.wrong) lines.push(make("div.kling-line.kling-wrong", text(`marks.${key}`, values)));
  for (const { key, values } of seen.notes) lines.push(make("div.kling-line.kling-dim", text(`marks.${key}`, values)));
  return lines;
}

function shownName(node, name) {
  const input = findInput(node, name);
  return input?.label || findWidget(node, name)?.label || input?.localized_name || name;
}

function drawTask(task, text) {
  if (!task) return [];
  const button = make("button.kling-button", { type: "button", textContent: text("task.copy") });
  button.addEventListener("click", async () => {
    button.textContent = text((await copyText(task.task_id)) ? "task.copied" : "task.not_copied");
  });
  return [
    make("div.kling-line.kling-task", {}, make("span.kling-id", { textContent: task.task_id, title: task.task_id }), button),
    make("div.kling-line.kling-dim", text(task.reused ? "task.reused" : "task.submitted")),
  ];
}

/** Text areas are HTML, which the veil on the canvas does not reach. */
function dimText(node, name, dim) {
  const area = findWidget(node, name)?.element;
  if (area) area.style.opacity = dim ? String(1 - VEIL) : "";
}

/** Lay a veil of the node's own colour over what is not used. Only the picture changes, not the node. */
function veil(node, unused) {
  const { drawWidgets } = node;
  if (typeof drawWidgets !== "function") return;
  node.drawWidgets = function (context) {
    drawWidgets.apply(this, arguments);
    const names = unused();
    if (!names.size) return;
    context.save();
    context.globalAlpha = VEIL;
    context.fillStyle = this.renderingBgColor ?? this.bgcolor ?? globalThis.LiteGraph?.NODE_DEFAULT_BGCOLOR ?? "#353535";
    for (const widget of this.widgets ?? []) {
      // What has an element of its own lies above the canvas.
      if (names.has(widget.name) && !widget.element && widget.y) context.fillRect(6, widget.y, this.size[0] - 12, 22);
    }
    for (const name of SOCKETS.filter((socket) => names.has(socket))) {
      const slot = this.findInputSlot(name);
      if (slot < 0) continue;
      const [x, y] = this.getConnectionPos(true, slot);
      context.fillRect(x - this.pos[0] + 8, y - this.pos[1] - 9, this.size[0] / 2, 18);
    }
    context.restore();
  };
}
