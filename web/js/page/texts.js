/** What the pack says in the browser, in the language that the front end is set to. */

const FALLBACK = "en";

/**
 * @param translations gives what GET /i18n gave: language to messages; ours lie under `kling`
 * @param language gives the front end's language, asked for with each text, because the user can change it
 * @returns text(path, values): the message at a path such as `timeline.total`, with {names} replaced
 */
export function createTexts(translations, language) {
  return (path, values = {}) => {
    const wanted = language() || FALLBACK;
    for (const tongue of [wanted, wanted.split("-")[0], FALLBACK]) {
      const message = path.split(".").reduce((part, key) => part?.[key], translations()[tongue]?.kling);
      if (typeof message === "string") return fill(message, values);
    }
    return path;
  };
}

function fill(message, values) {
  return message.replace(/\{(\w+)\}/g, (all, name) => (name in values ? String(values[name]) : all));
}
