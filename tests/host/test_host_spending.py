"""Prices and limits on the page, in a real ComfyUI and a real browser (see comfyui_server.py for what that needs)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import requests
from comfyui_server import ComfyUI
from test_host_front_end import (
    DRAWINGS,
    add,
    expect_lines,
    front_end,
    lines,
    open_front_end,
    picture,
    run,
    set_widget,
    storyboard,
    wire,
)

from nodes.sandbox import Sandbox

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

pytest_plugins = ["comfyui_server"]


@pytest.fixture(scope="module")
def comfyui(host_gateway: Sandbox) -> Iterator[ComfyUI]:
    """A ComfyUI whose limits are not in its environment, with a model that nobody knows."""
    with ComfyUI(host_gateway, {"KLING_MAX_TASKS_PER_HOUR": "", "KLING_EXTRA_MODELS": "kling-v9"}) as running:
        yield running


@pytest.fixture(autouse=True)
def limits(comfyui: ComfyUI) -> None:
    """Wide ones, whatever the test before has set."""
    save_limits(comfyui, 500, 0)


@pytest.fixture
def page(browser: Browser, comfyui: ComfyUI) -> Iterator[Page]:
    with open_front_end(browser, comfyui) as opened:
        yield opened


def save_limits(comfyui: ComfyUI, tasks: int, units: int) -> None:
    body = {"tasks_per_hour": tasks, "units_per_day": units}
    requests.post(f"{comfyui.url}/kling/limits", json=body, timeout=30).raise_for_status()


def used(comfyui: ComfyUI) -> int:
    return int(comfyui.get("/kling/spending")["tasks"])


def say_again(page: Page) -> None:
    """Let the page ask what is spent, as it does after each run."""
    page.evaluate("() => { app.api.dispatchEvent(new CustomEvent('execution_success', { detail: {} })); }")


@contextmanager
def drawn(browser: Browser, comfyui: ComfyUI, drawing: str, language: str = "en") -> Iterator[Page]:
    with open_front_end(browser, comfyui, language, **{"Comfy.VueNodes.Enabled": DRAWINGS[drawing]}) as page:
        if DRAWINGS[drawing] and front_end(page).startswith("1.27."):
            pytest.skip("nodes drawn with HTML are unfinished in this front end")
        yield page


# -- on the node

SAID = {
    "en": [
        "≈ 9.6 units (list price about USD 1.34)",
        "{used} of 500 tasks this hour",
        "no facts known about this model",
    ],
    "zh": ["≈ 9.6 积分（官方定价约 1.34 美元）", "近 1 小时任务：{used}/500", "没有关于该模型的资料"],
}


@pytest.mark.parametrize("drawing", DRAWINGS)
@pytest.mark.parametrize("language", SAID)
def test_the_price_and_the_limit_are_on_the_node(
    browser: Browser, comfyui: ComfyUI, drawing: str, language: str
) -> None:
    with drawn(browser, comfyui, drawing, language) as page:
        made = storyboard(page)
        set_widget(page, made["send"], "sound", "on")
        set_widget(page, made["send"], "mode", "pro")
        strange = add(page, "KlingText2Video", 1300, 100, prompt="A dog", model_name="kling-v9")
        price, limit, unknown = (text.format(used=used(comfyui)) for text in SAID[language])
        expect_lines(page, price, limit, unknown)
        page.wait_for_timeout(700)
        picture(page, f"price-{drawing}-{language}")
        assert strange


def test_the_price_follows_what_the_user_changes(page: Page) -> None:
    node = add(page, "KlingText2Video", 300, 100, prompt="A cat", mode="std", sound="off", duration=5)
    expect_lines(page, "≈ 3 units (list price about USD 0.42)")
    set_widget(page, node, "mode", "pro")
    expect_lines(page, "≈ 4 units (list price about USD 0.56)")
    number = add(page, "PrimitiveInt", 60, 600, value=9)
    wire(page, number, node, "duration")
    expect_lines(page, "≈ 7.2 units (list price about USD 1.01)")
    wire(page, add(page, "StringLength", 60, 800), node, "duration")
    expect_lines(page, "price depends on a run")
    # What is refused costs nothing, so there is no price on it.
    set_widget(page, node, "model_name", "kling-v1")
    set_widget(page, node, "sound", "on")
    expect_lines(page, "kling-v1 cannot make sound.")
    assert lines(page).filter(has_text="price").count() == 0


def test_what_was_charged_is_shown_and_becomes_the_price(page: Page, comfyui: ComfyUI) -> None:
    values = {"prompt": "To be paid", "model_name": "kling-v2-5-turbo", "mode": "std", "duration": 5}
    send = add(page, "KlingText2Video", 100, 100, **values)
    video = add(page, "KlingVideo", 600, 100)
    wire(page, send, video, "task_id")
    wire(page, video, add(page, "PreviewAny", 600, 400), "source", slot=1)
    expect_lines(page, "≈ 1.5 units (list price about USD 0.21)")
    before = used(comfyui)
    run(page)
    expect_lines(page, "done:", "charged: 1.5 units", "last paid: 1.5 units", f"{before + 1} of 500 tasks this hour")
    assert lines(page).filter(has_text="units charged").count() == 0
    picture(page, "charged")
    # Another node with the same request reuses the task, and knows what it cost.
    add(page, "KlingText2Video", 1050, 100, **values)
    run(page)
    expect_lines(page, "This task already existed. Nothing was paid in this run.")
    lines(page).filter(has_text="charged: 1.5 units").nth(1).wait_for()
    picture(page, "charged-reused")


def test_a_full_hour_is_marked_and_the_error_can_be_read(page: Page, comfyui: ComfyUI, host_gateway: Sandbox) -> None:
    add(page, "KlingText2Video", 100, 100, prompt="Before the limit")
    run(page)
    expect_lines(page, "Submitted as a new task.")
    page.evaluate("() => app.graph.clear()")
    save_limits(comfyui, used(comfyui), 0)
    say_again(page)
    node = add(page, "KlingText2Video", 100, 100, prompt="One too many")
    page.locator(".kling-line .kling-wrong").filter(has_text="tasks this hour").wait_for()
    known = set(host_gateway.tasks)
    run(page)
    expect_lines(page, "in 60 minutes is reached", "KLING_MAX_TASKS_PER_HOUR")
    picture(page, "limit-reached")
    assert set(host_gateway.tasks) == known and node


# -- before a run


def many(page: Page, count: int, name: str) -> None:
    for index in range(count):
        add(page, "KlingText2Video", 60 + index % 4 * 380, 60 + index // 4 * 480, prompt=f"{name} {index}")
    expect_lines(page, "≈")


def press_run(page: Page) -> None:
    """Queue the graph. The answer comes once the question, if there is one, is answered."""
    page.evaluate("() => { window.queued = app.queuePrompt(0, 2); }")


def question(page: Page, *texts: str) -> Locator:
    dialog = page.get_by_role("dialog").filter(has_text=texts[0])
    dialog.wait_for()
    for text in texts:
        assert text in (dialog.text_content() or "")
    return dialog


def button(dialog: Locator, words: str) -> Locator:
    """A button by its words; its accessible name may have an icon in it as well."""
    return dialog.locator("button").filter(has_text=re.compile(words))


def queue_of(comfyui: ComfyUI) -> int:
    queue = comfyui.get("/queue")
    return len(queue["queue_running"]) + len(queue["queue_pending"])


ASKED = {
    "en": ("Buy these tasks?", "New tasks: 5", "≈ 15 units (list price about USD 2.10)", "Cancel", "Confirm"),
    "zh": ("确定购买这些任务？", "新任务：5 个", "≈ 15 积分（官方定价约 2.10 美元）", "取消", "确认|确定"),
}


@pytest.mark.parametrize("language", ASKED)
def test_above_the_number_the_page_asks_and_no_queues_nothing(
    browser: Browser, comfyui: ComfyUI, host_gateway: Sandbox, language: str
) -> None:
    title, count, price, no, yes = ASKED[language]
    with open_front_end(browser, comfyui, language) as page:
        sent: list[str] = []
        page.on("request", lambda request: sent.append(request.url) if request.url.endswith("/api/prompt") else None)
        many(page, 5, f"Asked in {language}")
        known, runs = set(host_gateway.tasks), len(comfyui.get("/history"))
        press_run(page)
        dialog = question(page, title, count, price)
        picture(page, f"question-{language}")
        button(dialog, no).click()
        page.evaluate("() => window.queued")
        page.wait_for_timeout(500)
        picture(page, f"question-no-{language}")
        assert (sent, queue_of(comfyui), len(comfyui.get("/history"))) == ([], 0, runs)
        assert set(host_gateway.tasks) == known

        press_run(page)
        button(question(page, title), yes).click()
        page.evaluate("() => window.queued")
        assert len(sent) == 2  # the batch was asked about once
        page.wait_for_timeout(100)
        for _ in range(100):
            if not queue_of(comfyui):
                break
            page.wait_for_timeout(100)
        assert len(set(host_gateway.tasks) - known) == 5


def test_a_run_that_buys_a_few_is_told_and_not_asked(page: Page, host_gateway: Sandbox) -> None:
    many(page, 2, "Told")
    known = set(host_gateway.tasks)
    run(page)
    page.get_by_text("New tasks: 2").first.wait_for()
    page.get_by_text("≈ 6 units (list price about USD 0.84)").first.wait_for()
    picture(page, "told")
    assert len(set(host_gateway.tasks) - known) == 2


def ask_above(number: int) -> dict[str, Any]:
    return {"Kling.AskAbove": number}


def test_the_number_can_be_set_and_0_never_asks(browser: Browser, comfyui: ComfyUI, host_gateway: Sandbox) -> None:
    with open_front_end(browser, comfyui, **ask_above(0)) as page:
        many(page, 5, "Never asked")
        known = set(host_gateway.tasks)
        run(page)
        assert len(set(host_gateway.tasks) - known) == 5
    with open_front_end(browser, comfyui, **ask_above(1)) as page:
        many(page, 2, "Asked above 1")
        press_run(page)
        button(question(page, "Buy these tasks?", "New tasks: 2"), "Cancel").click()
    requests.post(f"{comfyui.url}/settings", json={"Kling.AskAbove": 4}, timeout=30).raise_for_status()


def test_a_run_goes_on_when_the_server_cannot_say(page: Page, host_gateway: Sandbox) -> None:
    page.route("**/kling/rehearsal", lambda route: route.fulfill(status=500, body="no"))
    many(page, 5, "Unsaid")
    known = set(host_gateway.tasks)
    run(page)
    assert len(set(host_gateway.tasks) - known) == 5


# -- the settings


def open_limits(page: Page) -> Locator:
    page.evaluate("() => app.extensionManager.command.execute('Comfy.ShowSettingsDialog')")
    page.get_by_text("Kling", exact=True).first.click()
    panel = page.locator(".kling-limits")
    panel.wait_for()
    return panel


WORDS = {
    "en": ("New tasks per hour", "Units per day", "Save", "Saved. The limits apply", "Enter a whole number"),
    "zh": ("每小时新任务数", "每天积分数", "保存", "已保存，从下一个任务起生效。", "请输入不小于 0 的整数。"),
}


@pytest.mark.parametrize("language", WORDS)
def test_the_limits_are_shown_and_saved(browser: Browser, comfyui: ComfyUI, language: str) -> None:
    tasks, units, save, saved, whole = WORDS[language]
    with open_front_end(browser, comfyui, language) as page:
        panel = open_limits(page)
        page.wait_for_function("() => document.querySelector('.kling-limits input').value === '500'")
        panel.get_by_label(tasks).fill("30")
        panel.get_by_label(units).fill("1.5")
        panel.get_by_role("button", name=save).click()
        panel.get_by_text(whole).wait_for()
        panel.get_by_label(units).fill("200")
        panel.get_by_role("button", name=save).click()
        panel.get_by_text(saved).wait_for()
        limits = comfyui.get("/kling/limits")
        assert (limits["tasks_per_hour"], limits["units_per_day"]) == (30, 200)
        panel.get_by_text("30" if language == "en" else "/30").first.wait_for()
        panel.scroll_into_view_if_needed()
        picture(page, f"limits-{language}")
        settings = (comfyui.directory / "user" / "default" / "comfy.settings.json").read_text(encoding="utf-8")
        assert "Kling.Limits" not in json.loads(settings)


def test_a_limit_of_the_environment_is_locked(browser: Browser, host_gateway: Sandbox) -> None:
    with (
        ComfyUI(host_gateway, {"KLING_MAX_TASKS_PER_HOUR": "7"}) as comfyui,
        open_front_end(browser, comfyui) as page,
    ):
        panel = open_limits(page)
        panel.get_by_text("KLING_MAX_TASKS_PER_HOUR is set on the server").wait_for()
        field = panel.get_by_label("New tasks per hour")
        assert field.is_disabled() and field.input_value() == "7"
        panel.get_by_label("Units per day").fill("50")
        panel.get_by_role("button", name="Save").click()
        panel.get_by_text("Saved.").wait_for()
        picture(page, "limits-locked")
        assert comfyui.get("/kling/limits")["units_per_day"] == 50


def test_nothing_is_asked_more_than_once_in_30_seconds(page: Page) -> None:
    asked: list[Any] = []
    page.on("request", lambda request: asked.append(request.url) if "/kling/" in request.url else None)
    add(page, "KlingText2Video", 100, 100, prompt="Quiet")
    expect_lines(page, "USD")
    page.wait_for_timeout(3000)
    assert len(asked) <= 1
