import assert from "node:assert/strict";
import { test } from "node:test";

import { ask } from "../../web/js/page/server.js";

function server(status, body) {
  const sent = [];
  const fetchApi = async (path, options) => {
    sent.push({ path, ...options });
    return new Response(body, { status });
  };
  return { fetchApi, sent };
}

test("a question without a method is a GET without a body", async () => {
  const api = server(200, '{"set": true}');
  assert.deepEqual(await ask(api, "/kling/key"), { set: true });
  assert.deepEqual(api.sent, [{ path: "/kling/key", cache: "no-store" }]);
});

test("anything else is sent as JSON", async () => {
  const api = server(200, "{}");
  await ask(api, "/kling/key", "POST", { key: "k" });
  assert.deepEqual(api.sent, [
    {
      path: "/kling/key",
      cache: "no-store",
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: '{"key":"k"}',
    },
  ]);
});

test("a refusal throws the server's message, or the status without one", async () => {
  await assert.rejects(ask(server(400, '{"error": "no key"}'), "/kling/key"), { message: "no key" });
  await assert.rejects(ask(server(404, "{}"), "/kling/key"), { message: "/kling/key: HTTP 404" });
  await assert.rejects(ask(server(502, "<html>"), "/kling/key"), { message: "/kling/key: HTTP 502" });
});
