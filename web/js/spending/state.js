/** What this installation has spent, as the server counts it. */

import { ask } from "../page/server.js";

const INTERVAL_MS = 30_000;
const RUN_ENDS = ["execution_success", "execution_error", "execution_interrupted"];

/**
 * Ask the server at start, after each run, and every 30 seconds. A hidden page asks once it is shown again.
 *
 * @param api ComfyUI's api object
 * @param page the document
 * @returns {{now: function, refresh: function}} now() gives the answer of GET /kling/spending, null while there is none
 */
export function followSpending(api, page) {
  let state = null;
  let due = false;
  let asking = false;

  const askIfDue = async () => {
    if (!due || asking || page.hidden) return;
    due = false;
    asking = true;
    // Without an answer the node shows no limit. The run itself says what is wrong.
    state = await ask(api, "/kling/spending").catch(() => null);
    asking = false;
    await askIfDue();
  };
  const refresh = () => {
    due = true;
    return askIfDue();
  };

  for (const event of RUN_ENDS) api.addEventListener(event, refresh);
  page.addEventListener("visibilitychange", askIfDue);
  setInterval(refresh, INTERVAL_MS);
  refresh();
  return { now: () => state, refresh };
}
