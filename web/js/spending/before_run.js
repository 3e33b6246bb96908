/**
 * Says before a run how many tasks it buys, and asks if they are many.
 *
 * It only informs. If the server does not answer in time the run goes on, because the server's limit still protects.
 */

import { neededNodes } from "../graph/needed.js";
import { amountOf, inUsd } from "../graph/price.js";
import { ask } from "../page/server.js";

const SENDER = "KlingText2Video";
const PATIENCE_MS = 3000;
const TOAST_MS = 8000;

/**
 * @param api ComfyUI's api object, whose queuePrompt sends each prompt of a run
 * @param app ComfyUI's app object, whose queuePrompt starts a run of one or more prompts
 * @param text from createTexts
 * @param prices from GET /kling/models
 * @param most gives how many new tasks a run may buy without a question; 0 for any number
 */
export function askBeforeRuns(api, app, text, prices, most) {
  // A batch sends the same graph several times, which buys nothing more. One answer is enough.
  let agreed = new Set();
  let refused = false;

  const start = app.queuePrompt;
  app.queuePrompt = function (...args) {
    agreed = new Set();
    refused = false;
    return start.apply(this, args);
  };

  const send = api.queuePrompt;
  api.queuePrompt = async function (number, data, options, ...more) {
    const prompt = neededNodes(data.output, options?.partialExecutionTargets);
    const json = JSON.stringify(prompt);
    if (!agreed.has(json)) {
      refused ||= !(await mayRun(prompt));
      agreed.add(json);
    }
    // An answer without a prompt_id: nothing was queued, and nothing is wrong.
    return refused ? { node_errors: {} } : send.call(this, number, data, options, ...more);
  };

  // Newer front ends would say "Job queued". Listeners that capture are called first.
  api.addEventListener("promptQueued", (event) => refused && event.stopImmediatePropagation(), { capture: true });

  const mayRun = async (prompt) => {
    // One node buys one task at most, as far as can be known before a run.
    if (Object.values(prompt).filter((node) => node.class_type === SENDER).length < 2) return true;
    try {
      const found = await inTime(ask(api, "/kling/rehearsal", "POST", { prompt }));
      const count = found.new + found.unsure;
      if (count < 2) return true;
      const lines = describeRun(found, prices, text);
      const limit = most();
      if (!limit || count <= limit) {
        tell(app, lines);
        return true;
      }
      return await confirmed(app, text("run.title"), [...lines, text("run.setting", { limit })].join("\n"));
    } catch {
      return true;
    }
  };
}

/**
 * What the page says about a run.
 * @param found the answer of POST /kling/rehearsal
 * @returns lines of text
 */
export function describeRun(found, prices, text) {
  const lines = [];
  if (found.new) {
    lines.push(text("run.new", { count: found.new }));
    const { units } = found;
    const price = units === null ? null : { amount: amountOf(units, text), usd: inUsd(prices, units).toFixed(2) };
    lines.push(price ? text("run.price", price) : text("run.no_price"));
  }
  if (found.unsure) lines.push(text("run.unsure", { count: found.unsure }));
  if (found.reused) lines.push(text("run.reused", { count: found.reused }));
  return lines;
}

function inTime(promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("late")), PATIENCE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

function tell({ extensionManager }, [summary, ...detail]) {
  extensionManager?.toast?.add?.({ severity: "info", summary, detail: detail.join("\n"), life: TOAST_MS });
}

async function confirmed({ extensionManager }, title, message) {
  if (extensionManager?.dialog?.confirm) return (await extensionManager.dialog.confirm({ title, message })) === true;
  return globalThis.confirm(`${title}\n\n${message}`);
}
