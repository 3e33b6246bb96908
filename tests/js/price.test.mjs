import assert from "node:assert/strict";
import { test } from "node:test";

import { UNKNOWN } from "../../web/js/graph/input_values.js";
import { neededNodes } from "../../web/js/graph/needed.js";
import { amountOf, inUsd, lastPaid, limitUse, listPrice } from "../../web/js/graph/price.js";
import { tariffOf } from "../../web/js/graph/tariff.js";
import { askBeforeRuns, describeRun } from "../../web/js/spending/before_run.js";
import { followSpending } from "../../web/js/spending/state.js";
import { Graph } from "./litegraph.mjs";

// Not the real list, which lives in Python alone: one entry for each kind.
const PRICES = {
  date: "2026-09",
  usd_per_unit: 0.14,
  list: [
    { model_name: "clips", mode: "std", sound: "off", second: null, lengths: { 5: 1.5, 10: 3 } },
    { model_name: "long", mode: "pro", sound: "on", second: 1.2, lengths: {} },
  ],
};
const LIMITS = { max: 6, prompt_max: 512, shortest: 3, longest: 15 };
const text = (path, values = {}) => `${path} ${JSON.stringify(values)}`;
const tariff = (model_name, mode, sound, seconds) => ({ model_name, mode, sound, seconds });

test("the list has prices by the second and by the clip, and no others", () => {
  const price = (...of) => listPrice(PRICES, tariff(...of));
  assert.equal(price("clips", "std", "off", 5), 1.5);
  assert.equal(price("clips", "std", "off", 7), null);
  assert.equal(price("clips", "std", "on", 5), null);
  assert.equal(price("long", "pro", "on", 6), 7.2);
  assert.equal(price("long", "std", "on", 6), null);
  assert.equal(price("other", "std", "off", 5), null);
  // A file may hold any length.
  for (const seconds of ["constructor", "__proto__", {}, null]) {
    assert.equal(price("clips", "std", "off", seconds), null);
    assert.equal(price("long", "pro", "on", seconds), null);
  }
  assert.equal(inUsd(PRICES, 7.2), 1.008);
});

test("amounts are shown without the noise of binary fractions", () => {
  assert.equal(amountOf(0.1 + 0.2, text), 'price.units {"units":"0.3"}');
  assert.equal(amountOf(1, text), "price.one_unit {}");
});

test("what was paid counts for exactly the same tariff", () => {
  const paid = [{ ...tariff("clips", "std", "off", 5), units: 1.4 }];
  assert.equal(lastPaid(paid, tariff("clips", "std", "off", 5)), 1.4);
  for (const other of [["clips", "std", "off", 10], ["clips", "pro", "off", 5], ["long", "std", "off", 5]]) {
    assert.equal(lastPaid(paid, tariff(...other)), null);
  }
});

test("a limit is full when the next task would exceed it, and a limit of 0 is none", () => {
  const use = (state, units) => limitUse({ tasks: 0, units: null, tasks_per_hour: 0, units_per_day: 0, ...state }, units);
  assert.deepEqual(use({ tasks: 3 }), []);
  assert.deepEqual(use({ tasks: 3, tasks_per_hour: 20 }), [
    { key: "tasks_used", values: { used: 3, limit: 20 }, full: false },
  ]);
  // A limit may have been lowered below what is used.
  for (const tasks of [20, 25]) assert.equal(use({ tasks, tasks_per_hour: 20 })[0].full, true);
  const day = { units: 14.4, units_per_day: 20 };
  assert.deepEqual(use(day, 5.6), [{ key: "units_used", values: { used: "14.4", limit: 20 }, full: false }]);
  assert.equal(use(day, 5.7)[0].full, true);
  assert.equal(use({ units: 20, units_per_day: 20 })[0].full, true);
});

function sender(graph, more = {}) {
  const names = ["model_name", "mode", "sound", "duration", "multi_shot"];
  return graph.add("KlingText2Video", {
    inputs: names,
    widgets: { model_name: "long", mode: "pro", sound: "on", duration: 6, ...more },
  });
}

test("a node's tariff follows its widgets and wires", () => {
  const graph = new Graph();
  const node = sender(graph);
  assert.deepEqual(tariffOf(node, LIMITS), tariff("long", "pro", "on", 6));
  graph.wire(graph.add("PrimitiveInt", { widgets: { value: 9 } }), 0, node, 3);
  assert.equal(tariffOf(node, LIMITS).seconds, 9);
  graph.wire(graph.add("SomeSwitch"), 0, node, 0);
  assert.equal(tariffOf(node, LIMITS), UNKNOWN);
});

test("a storyboard decides the seconds", () => {
  const seconds = (...shots) => {
    const graph = new Graph();
    const node = sender(graph);
    graph.wire(graph.board(...shots.map((each) => each(graph))), 0, node, 4);
    const found = tariffOf(node, LIMITS);
    return found?.seconds ?? found;
  };
  const shot = (duration) => (graph) => graph.shot("a", duration);
  assert.equal(seconds(shot(3), shot(5)), 8);
  assert.equal(seconds((graph) => graph.add("SomeSwitch"), shot(5)), UNKNOWN);
  for (const wrong of [[], [shot(1)], [shot(9), shot(9)], [shot(2.5), shot(2.5)]]) assert.equal(seconds(...wrong), null);
  const graph = new Graph();
  const node = sender(graph);
  graph.wire(graph.add("SomeSwitch"), 0, node, 4);
  assert.equal(tariffOf(node, LIMITS), UNKNOWN);
});

test("of a partial run only the chosen outputs and what feeds them count", () => {
  const prompt = {
    1: { inputs: { prompt: "a" } },
    2: { inputs: { task_id: ["1", 0], list: [] } },
    3: { inputs: { task_id: ["4", 0] } },
    4: {},
  };
  assert.equal(neededNodes(prompt, undefined), prompt);
  assert.equal(neededNodes(prompt, []), prompt);
  assert.deepEqual(Object.keys(neededNodes(prompt, [2])), ["1", "2"]);
  assert.deepEqual(Object.keys(neededNodes(prompt, ["3", "9"])), ["3", "4"]);
  assert.deepEqual(Object.keys(neededNodes({ constructor: { inputs: {} } }, ["constructor"])), ["constructor"]);
});

// -- before a run

function page(answer, { most = 2, yes = true } = {}) {
  const seen = { asked: [], told: [], queued: [], rehearsals: 0, banners: 0 };
  const api = Object.assign(new EventTarget(), {
    queuePrompt: async (number, data) => {
      seen.queued.push(data.output);
      return { prompt_id: "p" };
    },
    fetchApi: async () => {
      seen.rehearsals += 1;
      return answer();
    },
  });
  const app = {
    queuePrompt: async (...prompts) => {
      for (const output of prompts) seen.answer = await api.queuePrompt(0, { output });
      api.dispatchEvent(new Event("promptQueued"));
    },
    extensionManager: {
      dialog: { confirm: async (question) => seen.asked.push(question) && yes },
      toast: { add: (toast) => seen.told.push(toast) },
    },
  };
  askBeforeRuns(api, app, text, PRICES, () => most);
  api.addEventListener("promptQueued", () => seen.banners++);
  return { app, seen };
}

const buys = (found) => () => Response.json({ new: 0, reused: 0, units: 0, unsure: 0, ...found });
const senders = (count, take = 1) =>
  Object.fromEntries([...Array(count)].map((_, i) => [i, { class_type: "KlingText2Video", inputs: { take } }]));

test("a run of one task is neither told nor asked about", async () => {
  const { app, seen } = page(buys({ new: 1, reused: 1, units: 7.2 }));
  await app.queuePrompt(senders(1));
  assert.equal(seen.rehearsals, 0);
  await app.queuePrompt(senders(2));
  assert.deepEqual([seen.rehearsals, seen.told, seen.asked, seen.queued.length], [1, [], [], 2]);
});

test("up to the limit the page tells, above it the page asks", async () => {
  const two = page(buys({ new: 2, units: 14.4 }));
  await two.app.queuePrompt(senders(2));
  assert.deepEqual([two.seen.told.length, two.seen.asked.length, two.seen.queued.length], [1, 0, 1]);
  const three = page(buys({ new: 2, unsure: 1, units: 14.4 }));
  await three.app.queuePrompt(senders(3));
  assert.deepEqual([three.seen.told.length, three.seen.asked.length, three.seen.queued.length], [0, 1, 1]);
  const never = page(buys({ new: 300, units: 300 }), { most: 0 });
  await never.app.queuePrompt(senders(300));
  assert.deepEqual([never.seen.told.length, never.seen.asked.length, never.seen.queued.length], [1, 0, 1]);
});

test("after a no nothing of the run is queued, and the next run asks again", async () => {
  const { app, seen } = page(buys({ new: 3, units: 21.6 }), { yes: false });
  await app.queuePrompt(senders(3), senders(3, 2));
  assert.deepEqual([seen.asked.length, seen.queued.length, seen.banners], [1, 0, 0]);
  assert.deepEqual(seen.answer, { node_errors: {} });
  await app.queuePrompt(senders(3));
  assert.equal(seen.asked.length, 2);
});

test("a batch of the same prompt is asked about once, a prompt that differs anew", async () => {
  const { app, seen } = page(buys({ new: 3, units: 21.6 }));
  await app.queuePrompt(senders(3), senders(3), senders(3, 2));
  assert.deepEqual([seen.asked.length, seen.queued.length, seen.banners], [2, 3, 1]);
});

test("a run goes on when the server does not say what it buys", async (t) => {
  const broken = page(() => Response.json({ error: "no" }, { status: 400 }));
  await broken.app.queuePrompt(senders(3));
  assert.equal(broken.seen.queued.length, 1);
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const silent = page(() => new Promise(() => {}));
  const run = silent.app.queuePrompt(senders(3));
  for (let turns = 0; turns < 20; turns += 1) await null;
  t.mock.timers.tick(2999);
  for (let turns = 0; turns < 20; turns += 1) await null;
  assert.equal(silent.seen.queued.length, 0);
  t.mock.timers.tick(1);
  await run;
  assert.equal(silent.seen.queued.length, 1);
});

test("what a run buys is said line by line", () => {
  const keys = (found) => describeRun(found, PRICES, text).map((line) => line.split(" ")[0]);
  assert.deepEqual(keys({ new: 2, units: 2.5, unsure: 0, reused: 0 }), ["run.new", "run.price"]);
  assert.deepEqual(keys({ new: 2, units: null, unsure: 1, reused: 1 }), [
    "run.new", "run.no_price", "run.unsure", "run.reused",
  ]);
  assert.deepEqual(keys({ new: 0, units: 0, unsure: 2, reused: 0 }), ["run.unsure"]);
});

// -- what was spent

test("the state is asked at start, after runs and every 30 s, and never by a hidden page", async (t) => {
  t.mock.timers.enable({ apis: ["setInterval"] });
  const api = new EventTarget();
  const document = Object.assign(new EventTarget(), { hidden: false });
  let asked = 0;
  let fails = false;
  api.fetchApi = async () => {
    asked += 1;
    return fails ? Response.json({}, { status: 400 }) : Response.json({ tasks: asked });
  };
  const settled = () => new Promise((resolve) => setImmediate(resolve));
  const { now } = followSpending(api, document);
  assert.equal(now(), null);
  await settled();
  assert.deepEqual([asked, now()], [1, { tasks: 1 }]);
  t.mock.timers.tick(29_999);
  await settled();
  assert.equal(asked, 1);
  t.mock.timers.tick(1);
  await settled();
  assert.equal(asked, 2);
  // Runs that end while a question is on its way share the next one.
  for (let runs = 0; runs < 5; runs += 1) api.dispatchEvent(new Event("execution_success"));
  await settled();
  assert.equal(asked, 4);

  document.hidden = true;
  api.dispatchEvent(new Event("execution_error"));
  t.mock.timers.tick(300_000);
  await settled();
  assert.equal(asked, 4);
  document.hidden = false;
  document.dispatchEvent(new Event("visibilitychange"));
  await settled();
  assert.equal(asked, 5);
  document.dispatchEvent(new Event("visibilitychange"));
  await settled();
  assert.equal(asked, 5);

  fails = true;
  api.dispatchEvent(new Event("execution_success"));
  await settled();
  assert.equal(now(), null);
});
