/** Settings > Kling > API key: write-only. The key goes to the server once and is never read back. */

import { make } from "./page/dom.js";

const CONFIRM_MS = 4000;

/**
 * @param api ComfyUI's api object; its fetchApi knows the path that ComfyUI is served under
 * @param text from createTexts
 * @returns the element that the settings dialog shows; it has no value, so the dialog stores nothing
 */
export function keyPanel(api, text) {
  const status = make("div.kling-status", text("panel.loading"));
  const input = make("input.kling-key", {
    type: "password",
    autocomplete: "off",
    spellcheck: false,
    placeholder: text("panel.placeholder"),
  });
  input.setAttribute("aria-label", text("panel.placeholder"));
  const save = make("button.kling-button", { type: "submit", textContent: text("panel.save") });
  const test = make("button.kling-button", { type: "button", textContent: text("panel.test") });
  const remove = make("button.kling-button", { type: "button", textContent: text("panel.remove") });
  const result = make("div.kling-result");
  result.setAttribute("role", "status");
  const note = make("div.kling-note", text("panel.note"));
  const panel = make(
    "form.kling-panel",
    { noValidate: true },
    status,
    make("div.kling-row", {}, input, save),
    make("div.kling-row", {}, test, remove),
    result,
    note,
  );

  /** @param kind good, wrong or busy; @param detail the server's own words, shown small below */
  const say = (kind, words, detail = "") => {
    result.replaceChildren(make("div", words), ...(detail ? [make("div.kling-detail", detail)] : []));
    result.dataset.kind = kind;
  };

  const showState = (state) => {
    status.textContent = describe(state, text);
    status.classList.toggle("kling-wrong", Boolean(state.problem));
    const locked = state.source === "environment";
    input.disabled = save.disabled = locked;
    test.disabled = !state.set;
    remove.hidden = state.source !== "file";
    save.textContent = text(state.source === "file" ? "panel.replace" : "panel.save");
  };

  /** One request; while it runs nothing else can be pressed. */
  const ask = async (path, method, body, then) => {
    panel.inert = true;
    try {
      const answer = await send(api, path, method, body);
      await then(answer);
    } catch (error) {
      say("wrong", text("panel.failed"), error.message);
    } finally {
      panel.inert = false;
    }
  };

  panel.addEventListener("submit", (event) => {
    event.preventDefault();
    const key = input.value;
    if (!key.trim()) return say("wrong", text("panel.empty"));
    return ask("/kling/key", "POST", { key }, (state) => {
      input.value = "";
      showState(state);
      say("good", text("panel.saved"));
    });
  });

  test.addEventListener("click", () => {
    say("busy", text("panel.testing"));
    return ask("/kling/key/test", "POST", {}, ({ ok, kind, message }) =>
      say(ok ? "good" : "wrong", text(`panel.test_${kind}`), ok ? "" : message),
    );
  });

  let sure = null;
  const unsure = () => {
    clearTimeout(sure);
    sure = null;
    remove.textContent = text("panel.remove");
  };
  remove.addEventListener("click", () => {
    if (sure === null) {
      remove.textContent = text("panel.confirm");
      sure = setTimeout(unsure, CONFIRM_MS);
      return undefined;
    }
    unsure();
    return ask("/kling/key", "DELETE", {}, (state) => {
      showState(state);
      say("good", text("panel.removed"));
    });
  });

  // Keys typed here must not reach the canvas behind the dialog.
  panel.addEventListener("keydown", (event) => event.key !== "Escape" && event.stopPropagation());

  send(api, "/kling/key", "GET").then(showState, (error) => say("wrong", text("panel.failed"), error.message));
  return panel;
}

/** What the panel says of the key in use. */
export function describe(state, text) {
  if (state.problem) return text("panel.problem", { message: state.problem });
  if (!state.set) return text("panel.none");
  return text(`panel.${state.source}${state.last4 ? "" : "_hidden"}`, { last4: state.last4 });
}

/**
 * @returns the JSON that the server answers with
 * @throws Error with the server's words, if it refuses
 */
async function send(api, path, method, body) {
  const headers = { "Content-Type": "application/json" };
  const options = method === "GET" ? {} : { method, headers, body: JSON.stringify(body) };
  const response = await api.fetchApi(path, { cache: "no-store", ...options });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.error ?? `HTTP ${response.status}`);
  return answer;
}
