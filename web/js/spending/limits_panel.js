/** Settings > Kling > Limits. The limits are on the server, where no workflow can change them. */

import { limitUse } from "../graph/price.js";
import { make } from "../page/dom.js";
import { ask } from "../page/server.js";

/** The panel's fields, by their names in the server's answer, with the variables that come before them. */
const VARIABLES = { tasks_per_hour: "KLING_MAX_TASKS_PER_HOUR", units_per_day: "KLING_MAX_UNITS_PER_DAY" };

/**
 * @param api ComfyUI's api object
 * @param text from createTexts
 * @param changed is called after the limits were saved
 * @returns the element that the settings dialog shows; it has no value, so the dialog saves nothing
 */
export function limitsPanel(api, text, changed) {
  const status = make("div.kling-status", text("panel.loading"));
  const fields = Object.entries(VARIABLES).map(([name, variable]) => {
    const input = make("input.kling-field", { type: "number", min: "0", step: "1", disabled: true });
    const locked = make("div.kling-note", { textContent: text("limits.environment", { variable }), hidden: true });
    const label = make("label.kling-row", {}, make("span.kling-name", text(`limits.${name}`)), input);
    return { name, variable, input, locked, row: make("div", {}, label, locked) };
  });
  const save = make("button.kling-button", { type: "submit", textContent: text("panel.save"), disabled: true });
  const result = make("div.kling-result");
  result.setAttribute("role", "status");
  const panel = make(
    "form.kling-panel.kling-limits",
    { noValidate: true },
    status,
    ...fields.map(({ row }) => row),
    make("div.kling-row", {}, save),
    result,
    make("div.kling-note", text("limits.note")),
  );

  const say = (kind, words, detail = "") => {
    result.replaceChildren(make("div", words), ...(detail ? [make("div.kling-detail", detail)] : []));
    result.dataset.kind = kind;
  };

  const showLimits = (limits) => {
    for (const { name, variable, input, locked } of fields) {
      input.value = String(limits[name]);
      input.disabled = limits.environment.includes(variable);
      locked.hidden = !input.disabled;
    }
    save.disabled = fields.every(({ input }) => input.disabled);
  };

  const showUse = async () => {
    const use = limitUse(await ask(api, "/kling/spending"));
    const lines = use.map(({ key, values, full }) => make(full ? "div.kling-wrong" : "div", text(`price.${key}`, values)));
    status.replaceChildren(...(lines.length ? lines : [text("limits.none")]));
  };

  /** Send one request. Nothing can be pressed while it runs. */
  const request = async (work) => {
    panel.inert = true;
    try {
      await work();
    } catch (error) {
      say("wrong", text("panel.failed"), error.message);
    } finally {
      panel.inert = false;
    }
  };

  panel.addEventListener("submit", (event) => {
    event.preventDefault();
    const values = Object.fromEntries(fields.map(({ name, input }) => [name, input.value.trim()]));
    if (!Object.values(values).every((value) => /^\d+$/.test(value))) return say("wrong", text("limits.whole"));
    return request(async () => {
      showLimits(await ask(api, "/kling/limits", "POST", values));
      say("good", text("limits.saved"));
      changed();
      await showUse();
    });
  });

  // Keys typed here must not reach the canvas behind the dialog.
  panel.addEventListener("keydown", (event) => event.key !== "Escape" && event.stopPropagation());

  request(async () => {
    showLimits(await ask(api, "/kling/limits"));
    await showUse();
  });
  return panel;
}
