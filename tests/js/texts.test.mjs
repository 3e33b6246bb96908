import assert from "node:assert/strict";
import { test } from "node:test";

import { createTexts } from "../../web/js/page/texts.js";

const TRANSLATIONS = {
  en: { kling: { task: { total: "Total {total} s, {total}", only: "English" } } },
  zh: { kling: { task: { total: "总时长 {total} 秒" } } },
};
const inLanguage = (language) => createTexts(() => TRANSLATIONS, () => language);

test("texts come in the front end's language, with their values", () => {
  assert.equal(inLanguage("zh")("task.total", { total: 8 }), "总时长 8 秒");
  assert.equal(inLanguage("en")("task.total", { total: 8 }), "Total 8 s, 8");
});

test("a regional language falls back to its base language, then to English", () => {
  assert.equal(inLanguage("zh-TW")("task.total", { total: 1 }), "总时长 1 秒");
  assert.equal(inLanguage("zh")("task.only"), "English");
  assert.equal(inLanguage("fr")("task.only"), "English");
  assert.equal(inLanguage(undefined)("task.only"), "English");
});

test("a text that is missing in every language shows its path", () => {
  assert.equal(inLanguage("en")("task.nothing"), "task.nothing");
  assert.equal(createTexts(() => ({}), () => "en")("task.only"), "task.only");
});

test("the language may change while the page is open", () => {
  let language = "en";
  const text = createTexts(() => TRANSLATIONS, () => language);
  language = "zh";
  assert.equal(text("task.total", { total: 2 }), "总时长 2 秒");
});

test("values cannot bring in placeholders of their own", () => {
  assert.equal(inLanguage("zh")("task.total", { total: "{total}" }), "总时长 {total} 秒");
});
