/**
 * The entry: what the pack adds to ComfyUI's page. Every node works without it.
 *
 *     kling.js       registers everything below; the only file that imports the front end's modules
 *     key_panel.js   Settings > Kling > API key
 *     spending/      Settings > Kling > Limits, what was spent, and what is said before a run
 *     nodes/         what our nodes show on the canvas; sends no requests
 *     graph/         what the graph tells before a run; knows neither the page nor the server
 *     page/          elements, texts and requests; knows no nodes
 *
 * ComfyUI imports every .js file in here as an extension. All but this one only export.
 */

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { keyPanel } from "./key_panel.js";
import { addMultiShotStrip } from "./nodes/multi_shot.js";
import { followRuns } from "./nodes/runs.js";
import { colourStyle, colourTables } from "./nodes/socket_colours.js";
import { addText2VideoStrip } from "./nodes/text2video.js";
import { addVideoStrip } from "./nodes/video.js";
import { make } from "./page/dom.js";
import { ask } from "./page/server.js";
import { createTexts } from "./page/texts.js";
import { askBeforeRuns } from "./spending/before_run.js";
import { limitsPanel } from "./spending/limits_panel.js";
import { followSpending } from "./spending/state.js";

const OURS = new Set(["KlingShot", "KlingMultiShot", "KlingCameraControl", "KlingText2Video", "KlingVideo"]);
const SHOW_RUNS = new Set(["KlingText2Video", "KlingVideo"]);

let translations = {};
const language = () => app.ui?.settings?.getSettingValue?.("Comfy.Locale") || navigator.language;

/** What the strips need. */
const context = {
  text: createTexts(() => translations, language),
  language,
  runs: followRuns(api, app, (node) => SHOW_RUNS.has(node.comfyClass)),
  /** The models and limits that the server knows; null until it has answered. */
  facts: null,
  spending: null,
};

const askAbove = () => app.ui?.settings?.getSettingValue?.("Kling.AskAbove") ?? 4;

/** An empty text area shows its input's id in every language. Show the translated name, as other inputs do. */
function nameTextAreas(node) {
  for (const { element, label } of node.widgets ?? []) {
    if (element?.placeholder && label) element.placeholder = label;
  }
}

app.registerExtension({
  name: "Kling.Gateway",
  settings: [
    {
      id: "Kling.ApiKey",
      name: "API key",
      category: ["Kling", "API key", "Kling.ApiKey"],
      tooltip: "The key for the Kling gateway. It stays on the server and is never saved in a workflow.",
      type: () => keyPanel(api, context.text),
    },
    {
      id: "Kling.AskAbove",
      name: "Ask before a run buys more than N tasks",
      category: ["Kling", "Limits", "Kling.AskAbove"],
      tooltip: "0 means never ask. The limits apply in any case.",
      type: "number",
      attrs: { min: 0, step: 1 },
      defaultValue: 4,
    },
    {
      id: "Kling.Limits",
      name: "Limits",
      category: ["Kling", "Limits", "Kling.Limits"],
      tooltip: "How much this installation may spend. The limits stay on the server, and no workflow can change them.",
      type: () => limitsPanel(api, context.text, () => context.spending?.refresh()),
    },
  ],
  async init() {
    document.head.append(
      make("link", { rel: "stylesheet", href: new URL("./kling.css", import.meta.url).href }),
      make("style", colourStyle()),
    );
    translations = await ask(api, "/i18n");
    context.facts = await ask(api, "/kling/models");
    context.spending = followSpending(api, document);
  },
  setup() {
    if (context.facts) askBeforeRuns(api, app, context.text, context.facts.prices, askAbove);
    colourTables([app.canvas.default_connection_color_byType, app.canvas.constructor.link_type_colors]);
  },
  nodeCreated(node) {
    if (!OURS.has(node.comfyClass)) return;
    nameTextAreas(node);
    if (node.comfyClass === "KlingVideo") addVideoStrip(node, context);
    if (!context.facts) return;
    if (node.comfyClass === "KlingMultiShot") addMultiShotStrip(node, context);
    if (node.comfyClass === "KlingText2Video") addText2VideoStrip(node, context);
  },
});
