/** Elements and the clipboard. */

/**
 * @param tag the element's name, with classes: `div.kling-row.kling-wrong`
 * @param options properties to set, or the text as a string
 * @param children elements or texts
 */
export function make(tag, options = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name);
  if (classes.length) element.className = classes.join(" ");
  Object.assign(element, typeof options === "string" ? { textContent: options } : options);
  element.append(...children);
  return element;
}

/**
 * Copy a text. Browsers offer the clipboard API only over https and on localhost; elsewhere the old command is used.
 * @returns whether it was copied
 */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = make("textarea", { value: text });
    area.style.cssText = "position: fixed; opacity: 0";
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    return copied;
  }
}
