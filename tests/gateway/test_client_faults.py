"""What is known when a call breaks, and what is shown of it: never connected, or sent and the answer lost."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from conftest import KEY
from environment import Environment
from fault_tools import wait_until
from wire import ACCEPTED, BODY, certified, client, free_port, http, needs_openssl, sends, sends_and_closes, wire

from nodes.api.errors import KlingError
from nodes.api.gateway.client import Client
from nodes.api.gateway.outcome import Outcome
from nodes.sandbox import Sandbox


@pytest.fixture
def ours(sandbox: Sandbox) -> Client:
    """A client of the sandbox."""
    return client(sandbox.base_url)


# Never connected


def test_a_refused_connection_means_that_nothing_was_sent():
    attempt = client(f"http://127.0.0.1:{free_port()}/kling").create(BODY)
    assert (attempt.outcome, attempt.reason) == (Outcome.NOT_SENT, "the connection was refused")


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""], ids=["plain http", "closed"])
def test_a_failed_tls_handshake_means_that_nothing_was_sent(answer: bytes):
    with wire(sends_and_closes(answer), listens=False) as (url, _):
        attempt = client(url.replace("http:", "https:")).create(BODY)
    assert attempt.outcome is Outcome.NOT_SENT
    assert attempt.reason == "the secure connection failed (TLS certificate or proxy)"


@needs_openssl
def test_an_unknown_certificate_means_that_nothing_was_sent(tmp_path: Path):
    context, _ = certified(tmp_path)
    with wire(sends(http(ACCEPTED)), context=context) as (url, received):
        attempt = client(url).create(BODY)
    assert attempt.outcome is Outcome.NOT_SENT
    assert attempt.reason == "the secure connection failed (TLS certificate or proxy)"
    assert received == []


@pytest.mark.parametrize("url", ["https://a..b/kling", "https://" + "a" * 70 + ".example", "https://*x/kling"])
def test_an_address_that_is_none_means_that_nothing_was_sent(url: str):
    attempt = client(url).create(BODY)
    assert attempt.outcome is Outcome.NOT_SENT
    assert attempt.reason == "the address of the gateway or of a proxy cannot be used"


def test_a_proxy_that_is_not_there_means_that_nothing_was_sent(sandbox: Sandbox, environment: Environment):
    environment.set("HTTPS_PROXY", f"http://127.0.0.1:{free_port()}")
    attempt = client("https://gw.example/kling").create(BODY)
    assert attempt.outcome is Outcome.NOT_SENT
    assert "proxy" in attempt.reason


def test_a_proxy_that_refuses_the_way_means_that_nothing_was_sent(sandbox: Sandbox, environment: Environment):
    environment.set("HTTPS_PROXY", sandbox.origin)
    attempt = client("https://gw.example/kling").create(BODY)
    assert attempt.outcome is Outcome.NOT_SENT
    assert all(KEY not in str(request.headers) for request in sandbox.received)


# Sent, and the answer lost


@pytest.mark.parametrize(
    ("fault", "tasks", "reason"),
    [
        ("drop-before", 0, "the connection broke"),
        ("drop-after", 1, "the connection broke"),
        ("reset-before", 0, "the connection broke"),
        ("reset-after", 1, "the connection broke"),
        ("truncated-after", 1, "the "),  # connection broke, or answer was cut off: as requests noticed it
        ("hang-before", 0, "no answer in time"),
        ("hang-after", 1, "no answer in time"),
        ("empty-after", 1, "the gateway sent an HTTP 200 answer, and it is empty"),
        ("garbage-after", 1, "the gateway sent an HTTP 200 answer, and it begins with"),
        ("object-after", 1, "the answer contains no task_id"),
        ("null-after", 1, 'the gateway sent an HTTP 200 answer, and it begins with "null"'),
        ("no-task-id-after", 1, "the answer contains no task_id"),
        ("status-after:504", 1, "the gateway sent an HTTP 504 answer"),
        ("json-status-after:500", 1, "do_request_failed"),
        ("code-after:5000", 1, "an internal error at Kling"),
    ],
)
def test_a_lost_answer_is_told_from_a_connection_that_never_was(sandbox: Sandbox, fault: str, tasks: int, reason: str):
    sandbox.misbehave("create", fault)
    attempt = client(sandbox.base_url, create_timeout=0.5 if "hang" in fault else 60).create(BODY)
    assert attempt.outcome is Outcome.LOST
    assert reason in attempt.reason
    wait_until(lambda: sandbox.received, "the gateway has read what was sent")
    assert len(sandbox.tasks) == tasks
    assert len(sandbox.received) == 1


def test_a_slow_answer_is_waited_for(sandbox: Sandbox, ours: Client):
    sandbox.misbehave("create", "slow:0.3")
    assert ours.create(BODY).outcome is Outcome.ACCEPTED


@pytest.mark.parametrize("location", ["http://[::1/x", "/elsewhere", "http://127.0.0.1:1/", "\xff\xfe"])
def test_a_redirect_is_refused_without_reading_where_it_leads(location: str):
    redirect = http(b"", f"Location: {location}", status="302 Found")
    with wire(sends(redirect)) as (url, received):
        attempt = client(url).create(BODY)
    assert attempt.outcome is Outcome.REFUSED
    assert len(received) == 1


ENDLESS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + (b"10000\r\n" + b"x" * 0x10000 + b"\r\n") * 20


def test_a_query_whose_answer_has_no_end_may_be_asked_again():
    with wire(sends_and_closes(ENDLESS)) as (url, _), pytest.raises(KlingError, match="is longer than 1 MB") as caught:
        client(url).query("1")
    assert type(caught.value).__name__ == "UnavailableError"


def test_an_answer_without_end_is_given_up():
    with wire(sends_and_closes(ENDLESS)) as (url, _):
        attempt = client(url).create(BODY)
    assert attempt.outcome is Outcome.LOST
    assert attempt.reason == "the answer is longer than 1 MB"


@pytest.mark.parametrize(
    "answer",
    [
        http(ACCEPTED[:20], length=len(ACCEPTED)),
        http(gzip.compress(ACCEPTED)[:30], "Content-Encoding: gzip", length=len(gzip.compress(ACCEPTED))),
        http(gzip.compress(ACCEPTED)[:30], "Content-Encoding: gzip"),
        http(ACCEPTED, "Content-Encoding: gzip"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n" + ACCEPTED[:20],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + ACCEPTED,
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"",
    ],
    ids=range(9),
)
def test_a_broken_answer_is_a_lost_one(answer: bytes):
    with wire(sends_and_closes(answer)) as (url, received):
        attempt = client(url).create(BODY)
    assert attempt.outcome is Outcome.LOST
    assert attempt.reason
    assert len(received) == 1


def test_half_an_answer_is_not_taken_for_a_whole_one():
    # What has arrived is whole JSON by itself.
    with wire(sends_and_closes(http(ACCEPTED, length=len(ACCEPTED) + 50))) as (url, _):
        attempt = client(url).create(BODY)
    assert attempt.outcome is Outcome.LOST


@pytest.mark.parametrize(
    "answer",
    [
        http(gzip.compress(ACCEPTED), "Content-Encoding: gzip"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(ACCEPTED), ACCEPTED),
        b"HTTP/1.0 200 OK\r\n\r\n" + ACCEPTED,
        http(ACCEPTED, "Content-Type: text/html"),
        http(ACCEPTED, "Content-Type: application/json; charset=nonsense"),
        http(ACCEPTED, "X-Odd: \xff\xfe"),
        b"HTTP/1.1 100 Continue\r\n\r\n" + http(ACCEPTED),
    ],
    ids=["gzip", "chunked", "HTTP 1.0", "html", "charset", "odd header", "continue"],
)
def test_an_answer_is_read_however_it_is_wrapped(answer: bytes):
    with wire(sends_and_closes(answer)) as (url, _):
        attempt = client(url).create(BODY)
    assert attempt.outcome is Outcome.ACCEPTED
    assert attempt.task is not None
    assert attempt.task.task_id == "866889456698785798"


# What is shown


@pytest.mark.parametrize("style", ["gateway", "kling", "html"])
@pytest.mark.parametrize("key", [KEY, "0123456789abcdef0123456789abcdef"])
def test_a_key_that_the_gateway_repeats_is_cut_out(sandbox: Sandbox, style: str, key: str):
    ours = client(sandbox.base_url, key)
    sandbox.misbehave("create", f"echo-key:{style}")
    sandbox.misbehave("query", f"echo-key:{style}")
    attempt = ours.create(BODY)
    with pytest.raises(KlingError) as caught:
        ours.query("1")
    shown = f"{attempt!r} {attempt.error} {attempt.reason} {caught.value} {caught.value!r}"
    assert "Invalid token: ***" in shown
    assert key not in shown


def test_a_key_that_would_be_cut_in_two_is_cut_out_as_well():
    key = "0123456789abcdef0123456789abcdef"
    for before in range(40, 80):
        with wire(sends_and_closes(http(b"x" * before + key.encode(), status="502 Bad"))) as (url, _):
            reason = client(url, key).create(BODY).reason
        assert "0123" not in reason


def test_parts_of_a_key_that_the_gateway_quotes_are_cut_out(sandbox: Sandbox, ours: Client):
    sandbox.misbehave("create", "gateway:exhausted")
    attempt = ours.create(BODY)
    assert "sk-abc" not in str(attempt.error)
    assert "该令牌额度已用尽" in str(attempt.error)


def test_the_host_that_the_gateway_names_is_cut_out():
    page = b"<title>127.0.0.1 | 502: Bad gateway</title>"
    with wire(sends_and_closes(http(page, status="502 Bad"))) as (url, _):
        assert client(url).create(BODY).reason == (
            'the gateway sent an HTTP 502 answer, and it begins with "*** | 502: Bad gateway"'
        )


def test_no_repr_shows_the_key(sandbox: Sandbox, ours: Client):
    attempt = ours.create(BODY)
    assert KEY not in f"{ours!r} {vars(ours)!r} {attempt!r}"
