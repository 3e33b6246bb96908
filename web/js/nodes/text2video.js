/** KlingText2Video's strip: what does not fit the chosen model, the price, the run's progress, after it the task_id. */

import { reportedTo } from "../graph/callback.js";
import { inputMarks } from "../graph/input_marks.js";
import { findInput, findWidget, isConnected, UNKNOWN, widgetValue } from "../graph/input_values.js";
import { amountOf, inUsd, lastPaid, limitUse, listPrice } from "../graph/price.js";
import { tariffOf } from "../graph/tariff.js";
import { make } from "../page/dom.js";
import { messageLines, taskLines } from "./run_lines.js";
import { liveStrip } from "./strip.js";

const WIDGETS = ["model_name", "mode", "duration", "sound"];
const SOCKETS = ["camera_control", "multi_shot"];
const VEIL = 0.55;

export function addText2VideoStrip(node, { facts, text, language, runs, spending }) {
  let unused = new Set();
  const look = () => {
    const values = Object.fromEntries(
      WIDGETS.map((name) => [name, widgetValue(node, name)]).filter(([, value]) => value !== UNKNOWN),
    );
    const marks = inputMarks(facts, values, new Set(SOCKETS.filter((name) => isConnected(node, name))));
    const price = marks.wrong.length ? null : priceOf(tariffOf(node, facts.shots), facts.prices, spending.now());
    const use = spending.now() ? limitUse(spending.now(), price?.units ?? 0) : [];
    const said = runs.message(node);
    // Beside an error, the task of an earlier run would read as this run's.
    const task = said?.wrong ? null : (runs.output(node)?.kling?.[0] ?? null);
    // The node's last message is its task_id, which has a line of its own here.
    const message = task && said?.text.includes(task.task_id) ? null : said;
    const host = reportedTo(node);
    const callback = { host: host === UNKNOWN ? null : host, later: host === UNKNOWN };
    return { marks, model: values.model_name, price, use, callback, message, task, language: language() };
  };
  liveStrip(node, "kling_submission", look, ({ marks, model, price, use, callback, message, task }) => {
    unused = new Set(marks.unused.flatMap(({ inputs }) => inputs));
    dimText(node, "prompt", unused.has("prompt"));
    node.setDirtyCanvas?.(true, false);
    return [
      ...markLines(node, marks, model, text),
      ...callbackLines(callback, task, text),
      ...priceLine(price, use, facts.prices, text),
      ...messageLines(message),
      ...taskLines(task, text),
    ];
  });
  veil(node, () => unused);
}

function markLines(node, { unused, wrong, notes }, model, text) {
  const unusedLine = ({ by, inputs }) => {
    const names = inputs.map((name) => shownName(node, name)).join(text("marks.comma"));
    return make("div.kling-line.kling-dim", `⊘ ${text(`marks.unused_by_${by}`, { model, inputs: names })}`);
  };
  return [
    ...unused.map(unusedLine),
    ...wrong.map(({ key, values }) => make("div.kling-line.kling-wrong", text(`marks.${key}`, values))),
    ...notes.map(({ key, values }) => make("div.kling-line.kling-dim", text(`marks.${key}`, values))),
  ];
}

/** To whom the result is reported: not dim, because a workflow from a stranger may name the stranger. */
function callbackLines({ host, later }, task, text) {
  const hosts = [host, later && task?.reported_to].filter(Boolean);
  const lines = hosts.map((name) => text("marks.callback", { host: name }));
  if (later) lines.unshift(text("marks.callback_later"));
  return lines.map((line) => make("div.kling-line", line));
}

/**
 * The price to show.
 * @returns {{kind: "list"|"paid"|"unlisted"|"later", units: number|undefined}}; null for a request with mistakes, which
 *   is refused for free
 */
function priceOf(tariff, prices, spending) {
  if (tariff === null) return null;
  if (tariff === UNKNOWN) return { kind: "later" };
  const paid = lastPaid(spending?.last_paid ?? [], tariff);
  if (paid !== null) return { kind: "paid", units: paid };
  const listed = listPrice(prices, tariff);
  return listed === null ? { kind: "unlisted" } : { kind: "list", units: listed };
}

function priceLine(price, use, prices, text) {
  const parts = use.map(({ key, values, full }) => make(full ? "span.kling-wrong" : "span", text(`price.${key}`, values)));
  if (price) {
    const { kind, units } = price;
    const values = units === undefined ? {} : { amount: amountOf(units, text), usd: inUsd(prices, units).toFixed(2) };
    const title = text(`price.${kind}_hint`, { date: prices.date });
    parts.unshift(make("span", { textContent: text(`price.${kind}`, values), title }));
  }
  return parts.length ? [make("div.kling-line.kling-dim", {}, ...parts)] : [];
}

function shownName(node, name) {
  const input = findInput(node, name);
  return input?.label || findWidget(node, name)?.label || input?.localized_name || name;
}

/** Text areas are HTML, which the veil on the canvas does not cover. */
function dimText(node, name, dim) {
  const area = findWidget(node, name)?.element;
  if (area) area.style.opacity = dim ? String(1 - VEIL) : "";
}

/** Lay a veil of the node's own colour over unused inputs. Only the picture changes, not the node. */
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
      // A widget with an element lies above the canvas.
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
