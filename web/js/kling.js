/**
 * What this pack adds to ComfyUI's page: the settings panel, colours, and strips on three of its nodes.
 *
 * Every node works without it. ComfyUI loads each .js file in this folder; the others only export.
 */

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { colourStyle, colourTables } from "./nodes/socket_colours.js";
import { make } from "./page/dom.js";
import { keyPanel } from "./key_panel.js";
import { followProgress, nodeByExecutionId } from "./nodes/runs.js";
import { showTimeline } from "./nodes/multi_shot.js";
import { showSubmission } from "./nodes/text2video.js";
import { createTexts } from "./page/texts.js";
import { showWaiting } from "./nodes/video.js";

const OURS = new Set(["KlingShot", "KlingMultiShot", "KlingCameraControl", "KlingText2Video", "KlingVideo"]);

let translations = {};
let facts = null;

const language = () => app.ui?.settings?.getSettingValue?.("Comfy.Locale") || navigator.language;
const text = createTexts(() => translations, language);

async function fetchJson(path) {
  const response = await api.fetchApi(path);
  if (!response.ok) throw new Error(`${path}: HTTP ${response.status}`);
  return response.json();
}

/** An empty text area shows its input's id, whatever the language; show what other inputs show. */
function nameTextAreas(node) {
  for (const { element, label } of node.widgets ?? []) {
    if (element?.placeholder && label) element.placeholder = label;
  }
}

const rootGraph = () => app.rootGraph ?? app.graph;

/** The output of a node's last run, as the front end keeps it per graph; gone with the page. */
function lastOutput(node) {
  const inside = node.graph.isRootGraph === false || (node.graph.rootGraph && node.graph.rootGraph !== node.graph);
  return app.nodeOutputs?.[inside ? `${node.graph.id}:${node.id}` : node.id];
}

const run = {
  output: lastOutput,
  words: followProgress(
    api,
    (id) => nodeByExecutionId(rootGraph(), id),
    (node) => ["KlingText2Video", "KlingVideo"].includes(node.comfyClass),
  ),
};

app.registerExtension({
  name: "Kling.Gateway",
  settings: [
    {
      id: "Kling.ApiKey",
      name: "API key",
      category: ["Kling", "API key", "Kling.ApiKey"],
      tooltip: "The key for the Kling gateway. It stays on the server and is never saved in a workflow.",
      type: () => keyPanel(api, text),
    },
  ],
  async init() {
    document.head.append(
      make("link", { rel: "stylesheet", href: new URL("./kling.css", import.meta.url).href }),
      make("style", colourStyle()),
    );
    translations = await fetchJson("/i18n");
    facts = await fetchJson("/kling/models");
  },
  setup() {
    colourTables([app.canvas.default_connection_color_byType, app.canvas.constructor.link_type_colors]);
  },
  nodeCreated(node) {
    if (!OURS.has(node.comfyClass)) return;
    nameTextAreas(node);
    if (node.comfyClass === "KlingVideo") showWaiting(node, run);
    if (!facts) return;
    if (node.comfyClass === "KlingMultiShot") showTimeline(node, facts, text, language);
    if (node.comfyClass === "KlingText2Video") showSubmission(node, facts, text, language, run);
  },
});
