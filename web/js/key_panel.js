/** Settings > Kling > API key. Write-only: the key goes to the server once and is never read back. */

import { make } from "./page/dom.js";
import { ask } from "./page/server.js";

const CONFIRM_MS = 4000;

/**
 * @param api ComfyUI's api object
 * @param text from createTexts
 * @returns the element that the settings dialog shows; it has no value, so the dialog saves nothing
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

  /** @param kind good, wrong or busy; @param detail the server's own message, shown small below */
  const say = (kind, words, detail = "") => {
    result.replaceChildren(make("div", words), ...(detail ? [make("div.kling-detail", detail)] : []));
    result.dataset.kind = kind;
  };

  const showState = (state) => {
    status.textContent = describeKey(state, text);
    status.classList.toggle("kling-wrong", Boolean(state.problem));
    const locked = state.source === "environment";
    input.disabled = save.disabled = locked;
    test.disabled = !state.set;
    remove.hidden = state.source !== "file";
    save.textContent = text(state.source === "file" ? "panel.replace" : "panel.save");
  };

  /** Send one request. Nothing can be pressed while it runs. */
  const request = async (path, method, body, then) => {
    panel.inert = true;
    try {
      then(await ask(api, path, method, body));
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
    return request("/kling/key", "POST", { key }, (state) => {
      input.value = "";
      showState(state);
      say("good", text("panel.saved"));
    });
  });

  test.addEventListener("click", () => {
    say("busy", text("panel.testing"));
    return request("/kling/key/test", "POST", {}, ({ ok, kind, message }) =>
      say(ok ? "good" : "wrong", text(`panel.test_${kind}`), ok ? "" : message),
    );
  });

  // The first click asks, a second one within a few seconds removes.
  let confirming = null;
  const stopConfirming = () => {
    clearTimeout(confirming);
    confirming = null;
    remove.textContent = text("panel.remove");
  };
  remove.addEventListener("click", () => {
    if (confirming === null) {
      remove.textContent = text("panel.confirm");
      confirming = setTimeout(stopConfirming, CONFIRM_MS);
      return undefined;
    }
    stopConfirming();
    return request("/kling/key", "DELETE", {}, (state) => {
      showState(state);
      say("good", text("panel.removed"));
    });
  });

  // Keys typed here must not reach the canvas behind the dialog.
  panel.addEventListener("keydown", (event) => event.key !== "Escape" && event.stopPropagation());

  ask(api, "/kling/key").then(showState, (error) => say("wrong", text("panel.failed"), error.message));
  return panel;
}

/** What the panel says about the key in use. */
export function describeKey(state, text) {
  if (state.problem) return text("panel.problem", { message: state.problem });
  if (!state.set) return text("panel.none");
  return text(`panel.${state.source}${state.last4 ? "" : "_hidden"}`, { last4: state.last4 });
}
