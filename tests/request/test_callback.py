"""callback_url: whom Kling reports to, and which hosts the owner allows."""

from __future__ import annotations

from typing import Any

import pytest
from bodies import GIVEN
from environment import Environment
from graph import PLAIN, Graph
from pydantic import ValidationError

from nodes.api.errors import SetupError
from nodes.api.request.body import Text2VideoRequest
from nodes.api.request.callback import reported_to
from nodes.sandbox import Sandbox


def accepted(url: str) -> bool:
    try:
        Text2VideoRequest.model_validate({**GIVEN, "callback_url": url})
    except ValidationError as error:
        assert [detail["loc"] for detail in error.errors()] == [("callback_url",)]
        return False
    return True


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://hooks.example", "hooks.example"),
        ("HTTPS://Hooks.EXAMPLE.:8443/in?a=http://other.example/#x", "hooks.example"),
        ("http://hooks.example@evil.example/", "evil.example"),
        ("http://[2001:DB8::1]:80/", "2001:db8::1"),
        ("http://kling\u0430.example/", "xn--kling-8ve.example"),
        ("http://" + "\u0430" * 70 + ".example/", "\\u0430" * 70 + ".example"),
        ("", None),
        (None, None),
    ],
    ids=ascii,
)
def test_the_host_is_named_so_that_nothing_hides_it(url: str | None, host: str | None) -> None:
    assert reported_to(url) == host


@pytest.mark.parametrize(
    "url",
    ["http://hooks.example\\@evil.example/", "http://a@hooks.example@evil.example/", "http:\\\\evil.example/"],
)
def test_an_address_in_which_two_programs_see_two_hosts_is_refused(url: str) -> None:
    assert not accepted(url)


@pytest.mark.parametrize(
    ("allowed", "url", "fits"),
    [
        ("", "https://any.example/", True),
        ("hooks.example", "https://hooks.example/", True),
        ("hooks.example", "http://HOOKS.example.:9000/", True),
        ("Hooks.Example.", "https://hooks.example/", True),
        (" a.example ,, hooks.example,", "https://hooks.example/", True),
        ("hooks.example", "https://a.hooks.example/", False),
        ("hooks.example", "https://hooks.example.evil.example/", False),
        ("hooks.example", "https://myhooks.example/", False),
        ("hooks.example", "https://hooks.example@evil.example/", False),
        ("hooks.example", "https://evil.example/#@hooks.example", False),
        ("hooks.example", "https://evil.example?@hooks.example", False),
        (".hooks.example", "https://hooks.example/", True),
        (".hooks.example", "https://a.b.hooks.example/", True),
        (".hooks.example", "https://myhooks.example/", False),
        ("192.0.2.1,2001:db8::1", "https://192.0.2.1/", True),
        ("192.0.2.1,2001:db8::1", "https://[2001:db8::1]/", True),
        (",", "https://hooks.example/", False),
    ],
)
def test_only_the_hosts_of_the_variable_are_allowed(
    allowed: str, url: str, fits: bool, environment: Environment
) -> None:
    environment.set("KLING_CALLBACK_HOSTS", allowed)
    assert accepted(url) is fits
    assert accepted("")


def test_another_host_is_an_error_before_anything_is_sent(
    graph: Graph, gateway: Sandbox, environment: Environment
) -> None:
    environment.set("KLING_CALLBACK_HOSTS", "hooks.example,.mine.example")
    inputs: dict[str, Any] = {**PLAIN, "callback_url": "https://evil.example/in"}
    line = (
        "- KlingText2Video, callback_url: would report the task and its video to 'evil.example'; allowed:"
        " hooks.example, .mine.example. Clear it. If you know this host, add it to KLING_CALLBACK_HOSTS in the"
        " environment and restart ComfyUI."
    )
    with pytest.raises(graph.GraphError) as before:
        graph.classes["KlingText2Video"].VALIDATE_INPUTS(**inputs)
    with pytest.raises(graph.GraphError) as during:
        graph.run("KlingText2Video", **inputs)
    assert str(before.value).splitlines()[0] == str(during.value).splitlines()[0] == line
    assert gateway.received == []
    graph.submit(callback_url="https://a.mine.example/in")
    assert len(gateway.creates()) == 1


@pytest.mark.parametrize("wrong", ["https://hooks.example", "hooks.example:443", "a/b", "*.example", "a b", "me@x"])
def test_a_variable_that_names_no_hosts_stops_a_request_with_a_callback(wrong: str, environment: Environment) -> None:
    environment.set("KLING_CALLBACK_HOSTS", f"ok.example,{wrong}")
    with pytest.raises(SetupError, match=r"^KLING_CALLBACK_HOSTS: .* is not a host"):
        accepted("https://ok.example/")
    assert accepted("")
