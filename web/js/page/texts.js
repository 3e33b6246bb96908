/** The pack's messages in the browser, in the language that the front end is set to. */

const FALLBACK = "en";

/**
 * @param translations gives the answer of GET /i18n: messages by language; ours are under `kling`
 * @param language gives the front end's language; called for each text, because the user can change it
 * @returns text(path, values): the message at a path such as `timeline.total`, with {names} replaced
 */
export function createTexts(translations, language) {
  return (path, values = {}) => {
    const wanted = language() || FALLBACK;
    for (const tried of [wanted, wanted.split("-")[0], FALLBACK]) {
      const message = path.split(".").reduce((part, key) => part?.[key], translations()[tried]?.kling);
      if (typeof message === "string") return fill(message, values);
    }
    return path;
  };
}

function fill(message, values) {
  return message.replace(/\{(\w+)\}/g, (all, name) => (Object.hasOwn(values, name) ? String(values[name]) : all));
}
