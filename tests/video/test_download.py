"""Bringing a video here: what is sent, what is refused, how it goes on after it broke off, and who shares it."""

from __future__ import annotations

import asyncio
import gzip
import io
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import KEY
from pydantic import SecretStr
from watching import QUICK, Cancelled, Watcher, asked, close_all, finished, open_gateway

from nodes.api.errors import KlingError, SetupError, UnavailableError
from nodes.api.gateway.answer import Task, first_words
from nodes.api.ledger import filelock
from nodes.api.pace import Pace
from nodes.api.settings import Settings
from nodes.api.submit.account import Account
from nodes.api.video.download import download
from nodes.api.video.mp4 import is_video, missing_bytes
from nodes.api.video.transfer import Transfer, max_bytes
from nodes.sandbox import Sandbox

BIG = 300_000
KIND = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom"
CLIP = KIND + b"\x00\x00\x00\x10mdat\x01\x02\x03\x04\x05\x06\x07\x08"

SIZE, CUT = 40_000, 16_384
"""Of a film and of its first part. What is received is written in pieces as long as CUT."""
FILM = KIND + (SIZE - len(KIND)).to_bytes(4, "big") + b"mdat" + bytes(range(250)) * 160
FILM = FILM[:SIZE]


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Every ledger that a test has opened is closed after it."""
    yield
    close_all()


@pytest.fixture
def quick() -> Iterator[Sandbox]:
    """A gateway whose tasks are done at once."""
    with Sandbox(queued_for=0, runs_for=0) as running:
        yield running


@pytest.fixture
def account(quick: Sandbox, tmp_path: Path) -> Account:
    return open_gateway(quick, tmp_path)


@pytest.fixture
def temp(tmp_path: Path) -> Path:
    """ComfyUI's temp directory, which is not there yet."""
    return tmp_path / "comfy" / "temp"


def fetched(account: Account, task: Task, temp: Path, watcher: Watcher | None = None) -> Path:
    path, _ = asyncio.run(download(account, task, temp, watcher or Watcher(temp)))
    return path


def files(sandbox: Sandbox) -> list:
    """All requests for result files so far."""
    return [request for request in sandbox.received if request.path.startswith("/files/")]


def ranges(sandbox: Sandbox) -> list[str]:
    return [request.headers.get("range", "") for request in files(sandbox)]


def whole(sandbox: Sandbox, task: Task) -> bytes:
    return sandbox.file_part(task.task_id, 0, sandbox.file_size(task.task_id))


def big(sandbox: Sandbox, account: Account, take: int = 1, size: int = BIG) -> Task:
    sandbox.big_file(size)
    return finished(account, take)


# -- another server than the sandbox


@dataclass
class Scripted:
    """A server that gives one prepared answer after another, and keeps what it was asked."""

    url: str
    answers: list[bytes] = field(default_factory=list)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)


def says(body: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join([line for line in head if line != "Content-Length: -1"]).encode() + b"\r\n\r\n" + body


@contextmanager
def scripted(*answers: bytes) -> Iterator[Scripted]:
    script = Scripted("", list(answers))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            script.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            self.wfile.write(script.answers.pop(0))
            self.close_connection = True

        def log_message(self, format: str, *values: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        script.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield script
        finally:
            server.shutdown()
            thread.join()


def elsewhere(account: Account, script: Scripted, url: str = "") -> Task:
    return replace(finished(account), url=url or f"{script.url}/clip")


# -- how it goes well


def test_the_file_is_whole_and_named_after_the_task(quick: Sandbox, account: Account, temp: Path) -> None:
    task = big(quick, account)
    path = fetched(account, task, temp)
    assert path.read_bytes() == whole(quick, task)
    assert path.parent == temp
    assert path.name.startswith(f"kling-{task.task_id}-") and path.suffix == ".mp4"
    assert [file.name for file in temp.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "task_id", ["../../etc/passwd", "C:\\x\\y", "a/b?c#d", "\0", "CON", "任务", "x" * 500, "\ud800"]
)
def test_no_id_leads_out_of_the_directory(task_id: str, quick: Sandbox, account: Account, temp: Path) -> None:
    task = replace(finished(account), task_id=task_id)
    path = fetched(account, task, temp)
    assert path.parent == temp
    assert path.name.isascii() and len(path.name) < 80
    assert path.read_bytes() == whole(quick, finished(account))


def test_two_gateways_with_the_same_id_do_not_share_a_file(tmp_path: Path, temp: Path) -> None:
    settings = Settings("https://a.example", tmp_path, SecretStr(KEY))
    other = replace(settings, base_url="https://b.example")
    assert Transfer(settings, "1", temp, QUICK)._file != Transfer(other, "1", temp, QUICK)._file


def test_the_result_url_gets_no_key_and_no_cookie(quick: Sandbox, account: Account, temp: Path) -> None:
    fetched(account, finished(account), temp)
    assert len(files(quick)) == 1
    assert not {"authorization", "cookie", "proxy-authorization"} & set(files(quick)[0].headers)
    assert KEY not in repr(files(quick)[0].headers)
    assert not quick.warnings


def test_a_proxy_of_the_environment_is_used_without_a_password_from_netrc(
    account: Account, temp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine video.example login me password secret", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(netrc))
    cookie = says(b"", "Set-Cookie: a=b", "Location: http://video.example/two", status="302 Found")
    with scripted(cookie, says(CLIP)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        abroad = open_gateway("https://gateway.example/kling", tmp_path / "abroad")
        path = fetched(abroad, Task("1", url="http://user:pass@video.example/one"), temp)
    assert path.read_bytes() == CLIP
    assert [path for path, _ in proxy.asked] == ["http://video.example/one", "http://video.example/two"]
    for _, headers in proxy.asked:
        assert not {"authorization", "cookie", "proxy-authorization"} & set(headers)


def test_a_server_on_this_computer_is_asked_without_the_proxy(
    quick: Sandbox, account: Account, temp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scripted() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        task = finished(account)
        assert fetched(account, task, temp).read_bytes() == whole(quick, task)
    assert proxy.asked == []


def test_a_file_without_a_length_is_taken_to_its_end(quick: Sandbox, account: Account, temp: Path) -> None:
    task = big(quick, account)
    quick.misbehave("download", "no-length")
    assert fetched(account, task, temp).read_bytes() == whole(quick, task)


def test_a_file_that_was_packed_on_the_way_is_unpacked(account: Account, temp: Path) -> None:
    with scripted(says(gzip.compress(CLIP), "Content-Encoding: gzip", 'ETag: "1"')) as script:
        assert fetched(account, elsewhere(account, script), temp).read_bytes() == CLIP


def test_redirects_are_followed(quick: Sandbox, account: Account, temp: Path) -> None:
    task = finished(account)
    path = str(task.url).removeprefix(quick.origin)
    quick.misbehave("download", f"redirect:{task.url}", f"redirect:{path}")
    assert fetched(account, task, temp).read_bytes() == whole(quick, task)


def test_the_bar_moves_from_the_waiting_on_to_its_end(quick: Sandbox, account: Account, temp: Path) -> None:
    task = big(quick, account)
    quick.misbehave("download", "drop:200000")  # before each try the node is brought up to date, however fast it is
    watcher = Watcher(temp)
    fetched(account, task, temp, watcher)
    assert watcher.bar == sorted(set(watcher.bar))
    assert 0.89 <= watcher.bar[0] < watcher.bar[-1] <= 1
    assert any(" of 0.3 MB" in line for line in watcher.lines)


# -- what is there already


def test_a_file_that_is_there_is_used_again(quick: Sandbox, account: Account, temp: Path) -> None:
    task = finished(account)
    first = fetched(account, task, temp)
    assert fetched(account, task, temp) == first
    assert len(files(quick)) == 1


def test_an_empty_file_in_its_place_is_not(quick: Sandbox, account: Account, temp: Path) -> None:
    task = finished(account)
    path = fetched(account, task, temp)
    path.write_bytes(b"")
    assert fetched(account, task, temp).read_bytes() == whole(quick, task)


def test_nodes_that_want_the_same_video_at_once_download_it_once(quick: Sandbox, account: Account, temp: Path) -> None:
    task = big(quick, account)
    quick.misbehave("download", f"slow:{BIG * 4}")

    async def together() -> list[tuple[Path, str]]:
        return await asyncio.gather(*(download(account, task, temp, Watcher(temp)) for _ in range(5)))

    assert len({path for path, _ in asyncio.run(together())}) == 1
    assert len(files(quick)) == 1
    assert fetched(account, task, temp).read_bytes() == whole(quick, task)


def test_what_another_process_downloads_is_waited_for(quick: Sandbox, account: Account, temp: Path) -> None:
    task = finished(account)
    lock_path = Transfer(account.settings, task.task_id, temp, QUICK)._lock
    lock_path.parent.mkdir()
    lock = filelock.acquire(lock_path)
    assert lock
    asked_before: list[int] = []

    def other_is_done(watcher: Watcher) -> bool:
        if "downloading, waiting for other downloads" in watcher.lines and not asked_before:
            asked_before.append(len(files(quick)))
            lock.close()
        return False

    assert fetched(account, task, temp, Watcher(temp, other_is_done)).read_bytes() == whole(quick, task)
    assert asked_before == [0]


def test_only_some_download_at_the_same_time(quick: Sandbox, tmp_path: Path, temp: Path) -> None:
    account = open_gateway(quick, tmp_path)
    tasks = [big(quick, account, take) for take in range(1, 13)]
    watchers = [Watcher(temp) for _ in tasks]
    quick.misbehave("download", *["stall:50000"] * len(tasks))

    async def together() -> None:
        downloads = [asyncio.create_task(download(account, t, temp, w)) for t, w in zip(tasks, watchers, strict=True)]
        while sum("waiting for other" in watcher.lines[-1] for watcher in watchers if watcher.lines) < 4:
            await asyncio.sleep(0.01)
        assert len(files(quick)) <= 8
        for one in downloads:
            one.cancel()
        await asyncio.wait(downloads)

    asyncio.run(together())
    quick.stop()  # lets the threads go that hang on a connection


# -- what broke off


@pytest.mark.parametrize("fault", ["drop:100000", "reset:100000"])
def test_a_broken_connection_is_gone_on_with(fault: str, quick: Sandbox, account: Account, temp: Path) -> None:
    task = big(quick, account)
    quick.misbehave("download", fault, fault)
    assert fetched(account, task, temp).read_bytes() == whole(quick, task)
    starts = [int(text.removeprefix("bytes=").removesuffix("-") or 0) for text in ranges(quick)]
    assert len(starts) == 3
    assert starts[0] == 0 < starts[1] < starts[2] < BIG
    assert all(request.headers["if-range"].startswith('"') for request in files(quick)[1:])


def test_a_silent_connection_is_gone_on_with(quick: Sandbox, tmp_path: Path, temp: Path) -> None:
    # A slow machine may be silent for as long, so there may be more than the three requests.
    account = open_gateway(quick, tmp_path, replace(QUICK, download_silence=0.3, download_tries=100))
    task = big(quick, account)
    quick.misbehave("download", "stall:100000", "hang")
    assert fetched(account, task, temp).read_bytes() == whole(quick, task)
    assert len(files(quick)) >= 3


def test_a_server_that_ignores_ranges_is_asked_for_everything(quick: Sandbox, account: Account, temp: Path) -> None:
    task = big(quick, account)
    quick.misbehave("download", "drop:100000", "ignore-range")
    assert fetched(account, task, temp).read_bytes() == whole(quick, task)
    assert len(files(quick)) == 2


def test_a_file_that_has_changed_is_not_mixed_with_the_old_one(quick: Sandbox, account: Account, temp: Path) -> None:
    task = big(quick, account)
    quick.misbehave("download", "drop:100000", "changed")
    assert fetched(account, task, temp).read_bytes() == whole(quick, task)


@pytest.mark.parametrize(
    ("content_range", "tag"),
    [
        (f"bytes 5-{SIZE - 1}/{SIZE}", '"1"'),  # not what was asked for
        (f"bytes {CUT}-{SIZE}/{SIZE + 1}", '"1"'),  # another length
        (f"bytes {CUT}-{SIZE - 1}/{SIZE}", '"2"'),  # another version, from a server that does not know If-Range
        ("nonsense", '"1"'),
    ],
)
def test_a_part_that_does_not_fit_is_not_used(content_range: str, tag: str, account: Account, temp: Path) -> None:
    with scripted(
        says(FILM[:CUT], 'ETag: "1"', length=SIZE),
        says(b"?" * 100, f"ETag: {tag}", f"Content-Range: {content_range}", status="206 Partial Content"),
        says(FILM, 'ETag: "3"'),
    ) as script:
        assert fetched(account, elsewhere(account, script), temp).read_bytes() == FILM
    assert script.asked[1][1]["range"] == f"bytes={CUT}-"
    assert "range" not in script.asked[2][1]


def test_a_file_that_has_become_shorter_is_begun_anew(account: Account, temp: Path) -> None:
    with scripted(
        says(FILM[:CUT], 'ETag: "1"', length=SIZE),
        says(b"", "Content-Range: bytes */10", status="416 Range Not Satisfiable"),
        says(CLIP),
    ) as script:
        assert fetched(account, elsewhere(account, script), temp).read_bytes() == CLIP


@pytest.mark.parametrize(
    ("headers", "if_range"),
    [
        (('ETag: "1"',), '"1"'),
        (("Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT",), "Mon, 01 Jan 2024 00:00:00 GMT"),
        (('ETag: W/"1"', "Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT"), "Mon, 01 Jan 2024 00:00:00 GMT"),
        (('ETag: W/"1"',), None),
        ((), None),
    ],
)
def test_it_goes_on_only_if_the_server_can_tell_the_version(
    headers: tuple[str, ...], if_range: str | None, account: Account, temp: Path
) -> None:
    found = f"Content-Range: bytes {CUT}-{SIZE - 1}/{SIZE}"
    rest = says(FILM[CUT:], *headers, found, status="206 Partial Content") if if_range else says(FILM, *headers)
    with scripted(says(FILM[:CUT], *headers, length=SIZE), rest) as script:
        assert fetched(account, elsewhere(account, script), temp).read_bytes() == FILM
    assert script.asked[1][1].get("if-range") == if_range


def test_after_some_tries_without_a_byte_it_gives_up_and_running_again_goes_on(
    quick: Sandbox, account: Account, temp: Path
) -> None:
    task = big(quick, account)
    quick.misbehave("download", "drop:100000", *["drop:0"] * QUICK.download_tries)
    with pytest.raises(UnavailableError, match="keeps breaking off: the connection broke") as caught:
        fetched(account, task, temp)
    assert f"task_id {task.task_id}" in str(caught.value)
    assert len(files(quick)) == 1 + QUICK.download_tries
    assert fetched(account, task, temp).read_bytes() == whole(quick, task)
    assert ranges(quick)[-1] not in ("", "bytes=0-")


def test_tries_that_bring_something_are_not_counted(quick: Sandbox, account: Account, temp: Path) -> None:
    task = big(quick, account, size=2_000_000)
    quick.misbehave("download", *["drop:100000"] * 15)
    assert fetched(account, task, temp).read_bytes() == whole(quick, task)


@pytest.mark.parametrize("notes", ["", "{", "[]", "[1, 2]", '["", null]', '["\\"1\\"", "x"]', "null"])
def test_notes_of_an_earlier_try_that_make_no_sense_are_not_used(
    notes: str, quick: Sandbox, account: Account, temp: Path
) -> None:
    task = big(quick, account)
    transfer = Transfer(account.settings, task.task_id, temp, QUICK)
    temp.mkdir(parents=True)
    transfer._part.write_bytes(b"x" * 1000)
    transfer._notes.write_text(notes, encoding="utf-8")
    assert fetched(account, task, temp).read_bytes() == whole(quick, task)
    assert ranges(quick) == [""]


@pytest.mark.parametrize("fault", ["status:500", "status:502", "status:429", "status:408", "unavailable:retry-after=0"])
def test_a_server_in_trouble_is_asked_again(fault: str, quick: Sandbox, account: Account, temp: Path) -> None:
    task = finished(account)
    quick.misbehave("download", fault, fault)
    watcher = Watcher(temp)
    assert fetched(account, task, temp, watcher).read_bytes() == whole(quick, task)
    assert any("HTTP " in line and "trying again" in line for line in watcher.lines)


def test_a_video_that_ends_before_its_outline_does_is_tried_again(quick: Sandbox, account: Account, temp: Path) -> None:
    task = big(quick, account)
    quick.misbehave("download", "short", "short")
    assert fetched(account, task, temp).read_bytes() == whole(quick, task)
    assert ranges(quick) == ["", "", ""]


def test_a_video_cut_off_where_no_length_was_given_is_tried_again(account: Account, temp: Path) -> None:
    with scripted(says(CLIP[:36], length=-1), says(CLIP, length=-1)) as script:
        assert fetched(account, elsewhere(account, script), temp).read_bytes() == CLIP


def test_a_video_that_stays_cut_off_is_an_error(quick: Sandbox, account: Account, temp: Path) -> None:
    task = big(quick, account)
    quick.misbehave("download", *["short"] * (QUICK.download_tries + 1))
    with pytest.raises(UnavailableError, match=f"cut off, {BIG // 2} bytes are missing"):
        fetched(account, task, temp)
    assert not list(temp.iterdir())


# -- links that do not work


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_link_that_has_run_out_is_replaced_by_a_fresh_one(
    status: int, quick: Sandbox, account: Account, temp: Path
) -> None:
    task = finished(account)
    fresh = str(task.url)
    before = len(asked(quick))
    quick.misbehave("download", f"status:{status}")
    path, url = asyncio.run(download(account, replace(task, url=f"{fresh}?old"), temp, Watcher(temp)))
    assert (path.read_bytes(), url) == (whole(quick, task), fresh)
    assert len(asked(quick)) == before + 1
    assert [request.path for request in files(quick)] == [
        f"/files/{task.task_id}.mp4?old",
        f"/files/{task.task_id}.mp4",
    ]


def test_links_may_run_out_as_long_as_each_brings_something(quick: Sandbox, account: Account, temp: Path) -> None:
    task = big(quick, account)
    before = len(asked(quick))
    quick.misbehave("download", *["drop:90000", "status:403"] * 3)
    assert fetched(account, task, temp).read_bytes() == whole(quick, task)
    assert len(asked(quick)) == before + 3
    assert ranges(quick)[0] == ""
    assert all(text.startswith("bytes=") for text in ranges(quick)[1:])


@pytest.mark.parametrize("fault", ["status:403", "drop:0"])
def test_a_fresh_link_that_brings_nothing_more_is_the_last(
    fault: str, quick: Sandbox, account: Account, temp: Path
) -> None:
    task = big(quick, account)
    before = len(asked(quick))
    quick.misbehave("download", "drop:90000", "status:403", fault, "status:403")
    with pytest.raises(UnavailableError, match="nor does a fresh one"):
        fetched(account, task, temp)
    assert len(asked(quick)) == before + 1


def test_links_that_begin_anew_and_run_out_at_the_same_place_are_not_asked_for_without_end(
    account: Account, temp: Path
) -> None:
    cut_off, gone = says(FILM[:CUT], length=SIZE), says(b"", status="403 Forbidden")
    with scripted() as relay:
        link = f'{{"code": 0, "data": {{"task_id": "1", "task_status": "succeed", "url": "{relay.url}/clip"}}}}'
        relay.answers = [cut_off, gone, says(link.encode()), cut_off, gone]
        asks = open_gateway(relay.url, temp.parent / "relay")
        with pytest.raises(UnavailableError, match="link to the video does not work"):
            fetched(asks, Task("1", url=f"{relay.url}/clip"), temp)
        assert relay.answers == []


@pytest.mark.parametrize("answer", ["the same link", "no answer", "no link"])
def test_a_link_that_stays_dead_is_an_error_that_speaks_of_thirty_days(
    answer: str, quick: Sandbox, account: Account, temp: Path
) -> None:
    task = finished(account)
    quick.misbehave("download", "status:404", "status:404")
    quick.misbehave("query", *{"no answer": ["drop"], "no link": ["shape:no_url"]}.get(answer, []))
    with pytest.raises(UnavailableError, match="deletes results 30 days after they were made") as caught:
        fetched(account, task, temp)
    assert task.created_at
    assert time.strftime("%Y-%m-%d", time.gmtime(task.created_at / 1000)) in str(caught.value)
    assert f"HTTP 404, task_id {task.task_id}" in str(caught.value)
    assert quick.origin not in str(caught.value)
    assert len(files(quick)) == (2 if answer == "the same link" else 1)


def test_a_fresh_link_to_the_video_of_another_task_is_not_followed(account: Account, temp: Path) -> None:
    other = (
        b'{"code": 0, "data": {"task_id": "1", "task_status": "succeed", "task_info": {"external_task_id": "other"},'
    )
    other += b' "task_result": {"videos": [{"url": "http://127.0.0.1:9/other.mp4"}]}}}'
    with scripted(says(b"", status="403 Forbidden"), says(other)) as relay:
        asks = open_gateway(relay.url, temp.parent / "mixed-up")
        with pytest.raises(UnavailableError, match="link to the video does not work"):
            fetched(asks, Task("1", "succeed", "boat-1", url=f"{relay.url}/clip"), temp)
        assert [path for path, _ in relay.asked] == ["/clip", "/v1/videos/text2video/1"]


def test_redirects_without_end_are_an_error(quick: Sandbox, account: Account, temp: Path) -> None:
    task = finished(account)
    quick.misbehave("download", *[f"redirect:{task.url}"] * 50)
    with pytest.raises(UnavailableError, match="redirects in circles"):
        fetched(account, task, temp)
    assert len(files(quick)) < 10


@pytest.mark.parametrize(
    "target",
    [
        *("ftp://127.0.0.1/x", "file:///etc/passwd", "javascript:1", "http://[::1"),
        *("http://video..example/x", f"https://{'video' * 14}.example/x"),
    ],
)
def test_other_kinds_of_address_are_refused(target: str, quick: Sandbox, account: Account, temp: Path) -> None:
    task = finished(account)
    with pytest.raises(SetupError, match="leads to no"):
        fetched(account, replace(task, url=target), temp)
    quick.misbehave("download", f"redirect:{target}")
    with pytest.raises(SetupError, match="leads to no") as caught:
        fetched(account, task, temp)
    assert "Nothing is lost or paid again" in str(caught.value)
    assert "video.." not in str(caught.value) and "videovideo" not in str(caught.value)
    assert len(files(quick)) == 1


# -- the network behind this computer


@pytest.fixture
def abroad(tmp_path: Path) -> Account:
    """A gateway that is not on this computer."""
    return open_gateway("https://gateway.example/kling", tmp_path)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "localhost.", "127.1", "2130706433", "0x7f000001", "0.0.0.0"]
)
def test_a_gateway_abroad_cannot_send_us_to_this_computer(host: str, abroad: Account, temp: Path) -> None:
    with scripted() as inside:
        url = f"{inside.url}/admin".replace("127.0.0.1", host)
        with pytest.raises((SetupError, UnavailableError)) as caught:
            fetched(abroad, Task("1", url=url), temp)
        # Some systems do not read the old ways to write an address, and then find no such host.
        assert re.search("inside the network of this computer|name was not found", str(caught.value))
    assert inside.asked == []


@pytest.mark.parametrize(
    "host",
    [
        *("10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "127.8.8.8"),
        *("[::1]", "[fd00::1]", "[fe80::1]", "[::ffff:10.0.0.1]", "[::ffff:100.64.0.1]", "[::ffff:127.0.0.1]"),
    ],
)
def test_nor_into_its_network_not_even_through_a_proxy(
    host: str, abroad: Account, temp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scripted() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        with pytest.raises(SetupError, match="inside the network of this computer"):
            fetched(abroad, Task("1", url=f"http://{host}/latest"), temp)
    assert proxy.asked == []


def test_nor_by_a_redirect(abroad: Account, temp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted(says(b"", "Location: http://10.0.0.1/", status="302 Found")) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        with pytest.raises(SetupError, match="inside the network of this computer"):
            fetched(abroad, Task("1", url="http://video.example/"), temp)
    assert [path for path, _ in proxy.asked] == ["http://video.example/"]


@pytest.mark.parametrize(
    "host",
    ["198.18.0.5", "[::ffff:198.18.0.5]", "[fc00::5]", "93.184.216.34", "[::ffff:93.184.216.34]", "video.example"],
)
def test_public_addresses_and_those_of_tunnels_are_asked(
    host: str, abroad: Account, temp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scripted(says(CLIP)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert fetched(abroad, Task("1", url=f"http://{host}/clip"), temp).read_bytes() == CLIP


def test_a_gateway_in_a_private_network_may_serve_its_own_files(
    tmp_path: Path, temp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = open_gateway("https://10.1.2.3/kling", tmp_path)
    with scripted(says(CLIP)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert fetched(account, Task("1", url="http://10.1.2.3/clip"), temp).read_bytes() == CLIP


# -- what is no video


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (says(b"<!DOCTYPE html><title>Sign in</title><p>to watch", "Content-Type: text/html"), "Sign in to watch"),
        # Of a long page the beginning is enough.
        (says(b"<!DOCTYPE html><title>Sign in</title>" + b" " * 20_000, length=10**9), "Sign in"),
        (says(b'{"error": "expired"}', "Content-Type: application/json"), '"error": "expired"'),
        (
            says(b"\xef\xbb\xbf<?xml version='1.0'?><Error>AccessDenied</Error>", "Content-Type: video/mp4"),
            "AccessDenied",
        ),
        (says(b"", "Content-Type: video/mp4"), "it is empty"),
        (says(b"gone fishing", "Content-Type: application/octet-stream"), "gone fishing"),
    ],
)
def test_a_body_that_is_no_video_is_refused_with_its_first_words(
    answer: bytes, words: str, account: Account, temp: Path
) -> None:
    with scripted(answer) as script, pytest.raises(UnavailableError, match="leads to no video") as caught:
        fetched(account, elsewhere(account, script), temp)
    assert words in str(caught.value)
    assert not list(temp.iterdir())


@pytest.mark.parametrize("kind", ["html", "empty"])
def test_what_the_sandbox_gives_in_place_of_a_video_is_refused(
    kind: str, quick: Sandbox, account: Account, temp: Path
) -> None:
    task = finished(account)
    quick.misbehave("download", kind)
    with pytest.raises(UnavailableError, match="leads to no video") as caught:
        fetched(account, task, temp)
    assert ("Sign in to watch this video" in str(caught.value)) == (kind == "html")
    assert len(files(quick)) == 1


def test_videos_are_known_by_their_first_bytes_or_by_their_type() -> None:
    assert is_video(CLIP, "")
    assert is_video(b"\x00\x00\x00\x08wide\x00\x00\x00\x10mdat", "application/octet-stream")
    assert is_video(b"\x1aE\xdf\xa3\x01", "text/plain")
    assert is_video(b"RIFF....AVI ", "video/x-msvideo")
    assert not is_video(b"RIFF....AVI ", "application/octet-stream")
    assert not is_video(b"  <html>", "video/mp4")
    assert not is_video(b"", "video/mp4")


def test_first_words_are_readable_and_few() -> None:
    page = b"<style>p {}</style><script>x()</script><p>Not\x07\n here</p>" + b"a" * 5000
    assert first_words(page) == f'it begins with "Not here {"a" * 71}"'
    assert first_words(b"\x00\x01 \n") == "it is empty"


@pytest.mark.parametrize(
    ("film", "missing"),
    [
        (CLIP, 0),
        (CLIP[:36], 4),
        (CLIP + b"\x00\x00", 0),
        (CLIP + b"\x00\x00\x00\x00more", 0),  # a box that goes on to the end
        (CLIP + b"\x00\x00\x00\x01mdat" + (1000).to_bytes(8, "big"), 984),
        (CLIP + b"\x00\x00\x00\x03bad!", 0),
        (b"\x1aE\xdf\xa3" + b"\xff" * 60, 0),
        (b"", 0),
    ],
)
def test_an_outline_tells_how_much_is_missing(film: bytes, missing: int) -> None:
    assert missing_bytes(io.BytesIO(film)) == missing


# -- limits and disks


def test_a_video_over_the_cap_is_refused_by_its_length(
    quick: Sandbox, account: Account, temp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KLING_MAX_VIDEO_MB", "1")
    task = big(quick, account, size=(1 << 20) + 1)
    quick.misbehave("download", "stall:0")
    with pytest.raises(SetupError, match="more than the 1 MB that are allowed") as caught:
        fetched(account, task, temp)
    assert len(files(quick)) == 1
    assert f"task_id {task.task_id}" in str(caught.value)
    assert not list(temp.iterdir())
    monkeypatch.setenv("KLING_MAX_VIDEO_MB", "2")
    assert fetched(account, task, temp).read_bytes() == whole(quick, task)


def test_a_video_over_the_cap_is_refused_while_it_comes(
    quick: Sandbox, account: Account, temp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KLING_MAX_VIDEO_MB", "1")
    task = big(quick, account, size=(1 << 20) + 1)
    quick.misbehave("download", "no-length")
    with pytest.raises(SetupError, match="more than the 1 MB that are allowed"):
        fetched(account, task, temp)
    assert not list(temp.iterdir())


def test_a_video_that_grew_over_the_cap_is_refused(
    account: Account, temp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KLING_MAX_VIDEO_MB", "1")
    chunk = f"{CUT:x}".encode() + b"\r\n" + FILM[:CUT] + b"\r\n"
    rest = says(b"?", 'ETag: "1"', f"Content-Range: bytes {CUT}-{1 << 20}/{1 << 21}", status="206 Partial Content")
    with (
        scripted(says(chunk, 'ETag: "1"', "Transfer-Encoding: chunked", length=-1), rest) as script,
        pytest.raises(SetupError, match="more than the 1 MB that are allowed"),
    ):
        fetched(account, elsewhere(account, script), temp)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "2 GB", "unlimited", "²", "9" * 40])
def test_a_cap_that_makes_no_sense_is_an_error(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLING_MAX_VIDEO_MB", text)
    with pytest.raises(SetupError, match="KLING_MAX_VIDEO_MB must be a whole number of megabytes"):
        max_bytes()


@pytest.mark.parametrize(("text", "megabytes"), [("", 2048), ("  ", 2048), (" 5 ", 5), ("100000", 100_000)])
def test_a_cap_is_read_when_it_is_used(text: str, megabytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLING_MAX_VIDEO_MB", text)
    assert max_bytes() == megabytes << 20


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_an_error_and_gets_its_space_back(quick: Sandbox, account: Account, temp: Path) -> None:
    task = big(quick, account)
    temp.mkdir(parents=True)
    Transfer(account.settings, task.task_id, temp, QUICK)._part.symlink_to("/dev/full")
    with pytest.raises(SetupError, match="temp directory: its disk is full") as caught:
        fetched(account, task, temp)
    assert str(temp) not in str(caught.value)
    assert not list(temp.iterdir())
    assert fetched(account, task, temp).read_bytes() == whole(quick, task)


@pytest.mark.parametrize("place", ["temp", "state"])
def test_a_directory_that_cannot_be_made_is_an_error_without_its_path(
    place: str, quick: Sandbox, account: Account, temp: Path
) -> None:
    task = finished(account)
    in_the_way = temp if place == "temp" else account.settings.state_dir / "downloads"
    in_the_way.parent.mkdir(parents=True, exist_ok=True)
    in_the_way.write_bytes(b"")
    with pytest.raises(SetupError, match=f"{place} directory: .* nothing is paid again") as caught:
        fetched(account, task, temp)
    assert str(in_the_way) not in str(caught.value)


# -- Cancel


def when(condition: Callable[[Watcher], bool], temp: Path) -> Watcher:
    return Watcher(temp, condition)


def test_cancel_ends_the_node_and_soon_its_thread_and_running_again_goes_on(
    quick: Sandbox, account: Account, temp: Path
) -> None:
    size = 50_000_000
    task = big(quick, account, size=size)
    quick.misbehave("download", "slow:500000")

    def has_begun(watcher: Watcher) -> bool:
        return any(re.match(r"downloading, (?!0\.0 )[\d.]+ of 47\.7 MB", line) for line in watcher.lines)

    watcher = when(has_begun, temp)
    with pytest.raises(Cancelled):
        fetched(account, task, temp, watcher)
    assert watcher.lines[-1] == "stopped. Run again to go on with the download, for free"
    transfer = Transfer(account.settings, task.task_id, temp, QUICK)
    with closing(filelock.acquire(transfer._lock, timeout=60)) as lock:  # the thread has let it go
        assert lock
        assert 50_000 < transfer._part.stat().st_size < size
    assert fetched(account, task, temp).read_bytes() == whole(quick, task)
    assert ranges(quick)[1].startswith("bytes=")


def test_a_download_that_hangs_does_not_hold_a_cancelled_node(quick: Sandbox, account: Account, temp: Path) -> None:
    task = finished(account)
    quick.misbehave("download", "hang")
    with pytest.raises(Cancelled):
        fetched(account, task, temp, when(lambda watcher: bool(files(quick)), temp))
    quick.stop()  # lets the thread go that hangs on the connection


def test_every_error_of_a_download_names_the_task(account: Account, temp: Path) -> None:
    with scripted(says(b"nothing")) as script, pytest.raises(KlingError) as caught:
        fetched(account, elsewhere(account, script), temp)
    assert caught.value.task_id


def test_the_pauses_double_up_to_a_limit() -> None:
    pace = Pace()
    assert pace.download_tries == 5
    assert pace.download_pause * 2**4 < pace.download_pause_most < 60
