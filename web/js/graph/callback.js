/** To whom Kling will report the result: the host in KlingText2Video's callback_url. */

import { UNKNOWN, widgetValue } from "./input_values.js";

const SHOWN = 60;

/** @returns the host, or the text if it names none; null without a callback_url; UNKNOWN if only a run would tell */
export function reportedTo(node) {
  const url = widgetValue(node, "callback_url");
  if (url === UNKNOWN) return UNKNOWN;
  const text = String(url ?? "").trim();
  if (!text) return null;
  try {
    return new URL(text).hostname || text.slice(0, SHOWN);
  } catch {
    return text.slice(0, SHOWN);
  }
}
