/** Which part of a prompt runs when the user runs only some of its output nodes. */

/**
 * @param prompt in ComfyUI's API format
 * @param targets ids of the output nodes to run; without any, the whole prompt runs
 * @returns the nodes that run
 */
export function neededNodes(prompt, targets) {
  if (!targets?.length) return prompt;
  const needed = new Map();
  const open = targets.map(String);
  while (open.length) {
    const id = open.pop();
    if (needed.has(id) || !Object.hasOwn(prompt, id)) continue;
    needed.set(id, prompt[id]);
    for (const value of Object.values(prompt[id].inputs ?? {})) {
      if (Array.isArray(value)) open.push(String(value[0]));
    }
  }
  return Object.fromEntries(needed);
}
