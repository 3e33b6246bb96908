import assert from "node:assert/strict";
import { test } from "node:test";

import { UNKNOWN } from "../../web/js/graph/input_values.js";
import { connectedShots, timeline } from "../../web/js/graph/timeline.js";
import { Graph } from "./litegraph.mjs";

const LIMITS = { prompt_max: 512, shortest: 3, longest: 15 };
const shot = (duration, prompt = "a", socket = 1) => ({ socket, prompt, duration });

test("shots follow each other", () => {
  const board = timeline([shot(3), shot(5), shot(2)], LIMITS);
  assert.deepEqual(
    board.shots.map(({ start, end }) => [start, end]),
    [[0, 3], [3, 8], [8, 10]],
  );
  assert.equal(board.total, 10);
  assert.deepEqual(board.problems, []);
});

test("without shots the timeline is empty and has no problems", () => {
  assert.deepEqual(timeline([], LIMITS), { shots: [], total: 0, problems: [] });
});

test("the total must be within the limits, both included", () => {
  const problems = (...seconds) => timeline(seconds.map((s) => shot(s)), LIMITS).problems;
  assert.deepEqual(problems(2), ["short"]);
  assert.deepEqual(problems(3), []);
  assert.deepEqual(problems(15), []);
  assert.deepEqual(problems(8, 8), ["long"]);
});

test("characters are counted as Python counts them", () => {
  const count = (text) => timeline([shot(5, text)], LIMITS).shots[0].characters;
  assert.equal(count("可灵"), 2);
  assert.equal(count("🎬"), 1);
  assert.equal(count("👩‍🚀"), 3);
});

test("blank and over-long prompts are problems of their shot", () => {
  const problems = (text) => timeline([shot(5, text)], LIMITS).shots[0].problems;
  assert.deepEqual(problems(""), ["blank"]);
  assert.deepEqual(problems(" \n　"), ["blank"]);
  assert.deepEqual(problems("x".repeat(512)), []);
  assert.deepEqual(problems("🎬".repeat(512)), []);
  assert.deepEqual(problems("x".repeat(513)), ["long"]);
});

test("a duration that is no whole number of at least one second is a problem", () => {
  for (const bad of [0, -1, 2.5, Number.NaN]) {
    assert.deepEqual(timeline([shot(bad)], LIMITS).shots[0].problems, ["duration"], String(bad));
  }
});

test("after an unknown duration all times are unknown, but not the prompt's length", () => {
  const board = timeline([shot(3), shot(UNKNOWN), shot(4)], LIMITS);
  assert.deepEqual(
    board.shots.map(({ start, end, characters }) => [start, end, characters]),
    [[0, 3, 1], [3, null, 1], [null, null, 1]],
  );
  assert.equal(board.total, null);
  assert.deepEqual(board.problems, []);
});

test("the known shots alone can be too long", () => {
  assert.deepEqual(timeline([shot(UNKNOWN), shot(9), shot(9)], LIMITS).problems, ["long"]);
});

test("a prompt with nothing to see is blank", () => {
  const problems = (prompt) => timeline([shot(5, prompt)], LIMITS).shots[0].problems;
  for (const blank of ["", " ", "\n\t ", "\u3000", "\u200b", "\ufeff", " \u2060\u200d\n", "\u00ad", "\x1c", "\x85"]) {
    assert.deepEqual(problems(blank), ["blank"], JSON.stringify(blank));
  }
  for (const seen of ["a", "\u200ba\u200b", "👨‍👩‍👧", ".", "雨"]) assert.deepEqual(problems(seen), [], seen);
});

test("an unknown prompt has no length and no problem", () => {
  const [only] = timeline([shot(5, UNKNOWN)], LIMITS).shots;
  assert.equal(only.characters, null);
  assert.deepEqual(only.problems, []);
});

test("free inputs are skipped and the others keep their socket's number", () => {
  const graph = new Graph();
  const board = graph.board(null, graph.shot("two", 2), null, graph.shot("four", 4));
  assert.deepEqual(connectedShots(board, 6), [
    { socket: 2, prompt: "two", duration: 2 },
    { socket: 4, prompt: "four", duration: 4 },
  ]);
});

test("a shot from another pack's node is listed, but unknown", () => {
  const graph = new Graph();
  const board = graph.board(graph.add("SomeSwitch"));
  assert.deepEqual(connectedShots(board, 6), [{ socket: 1, prompt: UNKNOWN, duration: UNKNOWN }]);
});
