/** The lines of a strip that tell about a run: the node's progress or error, the task_id, what was charged. */

import { amountOf } from "../graph/price.js";
import { copyText, make } from "../page/dom.js";

/** @param message as from followRuns */
export function messageLines(message) {
  if (!message) return [];
  return [make(message.wrong ? "div.kling-line.kling-wrong.kling-why" : "div.kling-line", message.text)];
}

/** @param task {charged: units or null} as our nodes return it to the page, or null */
export function chargedLines(task, text) {
  if (typeof task?.charged !== "number") return [];
  return [make("div.kling-line.kling-dim", text("price.charged", { amount: amountOf(task.charged, text) }))];
}

/** @param task {task_id, reused, charged} as KlingText2Video returns it to the page, or null */
export function taskLines(task, text) {
  if (!task) return [];
  const button = make("button.kling-button", { type: "button", textContent: text("task.copy") });
  button.addEventListener("click", async () => {
    button.textContent = text((await copyText(task.task_id)) ? "task.copied" : "task.not_copied");
  });
  return [
    make("div.kling-line.kling-task", {}, make("span.kling-id", { textContent: task.task_id, title: task.task_id }), button),
    make("div.kling-line.kling-dim", text(task.reused ? "task.reused" : "task.submitted")),
    ...chargedLines(task, text),
  ];
}
