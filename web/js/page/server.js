/** Requests to ComfyUI's server. */

/**
 * @param api ComfyUI's api object; its fetchApi knows the path that ComfyUI is served under
 * @returns the JSON that the server answers with
 * @throws Error with the server's own message if it gave one
 */
export async function ask(api, path, method = "GET", body = undefined) {
  const headers = { "Content-Type": "application/json" };
  const sent = method === "GET" ? {} : { method, headers, body: JSON.stringify(body) };
  const response = await api.fetchApi(path, { cache: "no-store", ...sent });
  if (response.ok) return response.json();
  const { error } = await response.json().catch(() => ({}));
  throw new Error(error ?? `${path}: HTTP ${response.status}`);
}
