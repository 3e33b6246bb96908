import assert from "node:assert/strict";
import { test } from "node:test";

import { describeKey } from "../../web/js/key_panel.js";

test("the panel says where the key comes from, and shows at most its last characters", () => {
  const said = (state) => describeKey({ set: true, source: null, last4: null, problem: null, ...state }, (path) => path);
  assert.equal(said({ set: false }), "panel.none");
  assert.equal(said({ source: "file", last4: "cdef" }), "panel.file");
  assert.equal(said({ source: "file" }), "panel.file_hidden");
  assert.equal(said({ source: "environment", last4: "cdef" }), "panel.environment");
  assert.equal(said({ set: false, source: "environment", problem: "no" }), "panel.problem");
});
