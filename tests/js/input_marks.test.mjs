import assert from "node:assert/strict";
import { test } from "node:test";

import { inputMarks } from "../../web/js/graph/input_marks.js";

// Not the real models, which live in Python alone: one for each kind of difference.
const FACTS = {
  camera: { mode: "std", duration: 5 },
  models: {
    plain: { durations: [5, 10], sound: false, multi_shot: false, camera_control: "no", cfg_scale: false },
    mover: { durations: [5, 10], sound: false, multi_shot: false, camera_control: "yes", cfg_scale: true },
    teller: { durations: [3, 4, 5, 6], sound: true, multi_shot: true, camera_control: "disputed", cfg_scale: false },
  },
};
const FINE = { mode: "std", duration: 5, sound: "off" };
const look = (model_name, values = {}, connected = []) => inputMarks(FACTS, { model_name, ...FINE, ...values }, new Set(connected));
const wrong = (...of) => look(...of).wrong.map(({ key }) => key);
const unused = (...of) => Object.fromEntries(look(...of).unused.map(({ by, inputs }) => [by, inputs]));

test("what a model cannot do is marked, and nothing else", () => {
  assert.deepEqual(unused("plain"), { model: ["sound", "cfg_scale", "camera_control", "multi_shot"] });
  assert.deepEqual(unused("mover"), { model: ["sound", "multi_shot"] });
  assert.deepEqual(unused("teller"), { model: ["cfg_scale"] });
  for (const model of Object.keys(FACTS.models)) assert.deepEqual(wrong(model), []);
});

test("a storyboard takes the place of prompt and duration", () => {
  assert.deepEqual(unused("teller", { duration: 99 }, ["multi_shot"]), {
    model: ["cfg_scale"],
    shots: ["prompt", "duration"],
  });
  assert.deepEqual(wrong("teller", { duration: 99 }, ["multi_shot"]), []);
});

test("a storyboard for a model that makes none is wrong, and says which model could", () => {
  const [problem] = look("plain", {}, ["multi_shot"]).wrong;
  assert.deepEqual(problem, { key: "multi_shot", values: { model: "plain", able: "teller" } });
});

test("sound is wrong only while it is on, with a model that cannot make it", () => {
  assert.deepEqual(wrong("plain", { sound: "on" }), ["sound"]);
  assert.deepEqual(unused("plain", { sound: "on" }).model.includes("sound"), false);
  assert.deepEqual(wrong("teller", { sound: "on" }), []);
});

test("a length that a model does not make is wrong, and says what it makes", () => {
  assert.deepEqual(look("plain", { duration: 7 }).wrong, [
    { key: "duration", values: { model: "plain", value: 7, allowed: "5, 10" } },
  ]);
  assert.equal(look("teller", { duration: 9 }).wrong[0].values.allowed, "3–6");
});

test("a camera move is judged by model, mode and duration", () => {
  assert.deepEqual(wrong("plain", {}, ["camera_control"]), ["camera_model"]);
  assert.deepEqual(wrong("mover", {}, ["camera_control"]), []);
  assert.deepEqual(wrong("mover", { mode: "pro" }, ["camera_control"]), ["camera_only"]);
  assert.deepEqual(wrong("mover", { duration: 10 }, ["camera_control"]), ["camera_only"]);
  const disputed = look("teller", { mode: "pro" }, ["camera_control"]);
  assert.deepEqual([disputed.wrong, disputed.notes.map(({ key }) => key)], [[], ["camera_disputed"]]);
});

test("values that come from another node are trusted", () => {
  const found = inputMarks(FACTS, { model_name: "mover" }, new Set(["camera_control"]));
  assert.deepEqual(found.wrong, []);
});

test("of a model without facts only that is said", () => {
  assert.deepEqual(inputMarks(FACTS, {}, new Set()), { unused: [], wrong: [], notes: [] });
  for (const model_name of ["kling-v9", "constructor"]) {
    const notes = [{ key: "unknown_model", values: {} }];
    assert.deepEqual(inputMarks(FACTS, { model_name }, new Set(["multi_shot"])), { unused: [], wrong: [], notes });
  }
});
