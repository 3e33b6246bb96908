"""One try at bringing a video into a file: how it goes on after it broke off, what is refused, limits and disks."""

from __future__ import annotations

import gzip
import io
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import KEY
from environment import Environment
from pydantic import SecretStr
from videos import BIG, CLIP, CUT, FILM, SIZE, big, elsewhere, fetched, files, ranges, says, scripted, whole
from watching import QUICK, finished, open_gateway

from nodes.api.errors import SetupError, UnavailableError
from nodes.api.gateway.foreign_text import first_words
from nodes.api.settings import Settings
from nodes.api.submit.account import Account
from nodes.api.video.mp4 import is_video, missing_bytes
from nodes.api.video.transfer import Transfer, max_bytes
from nodes.sandbox import Sandbox

pytest_plugins = ["watching", "videos"]


@pytest.fixture
def account(quick: Sandbox, tmp_path: Path) -> Account:
    return open_gateway(quick, tmp_path)


# -- the file


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


def test_a_file_without_a_length_is_taken_to_its_end(quick: Sandbox, account: Account, temp: Path) -> None:
    task = big(quick, account)
    quick.misbehave("download", "no-length")
    assert fetched(account, task, temp).read_bytes() == whole(quick, task)


def test_a_file_that_was_packed_on_the_way_is_unpacked(account: Account, temp: Path) -> None:
    with scripted(says(gzip.compress(CLIP), "Content-Encoding: gzip", 'ETag: "1"')) as script:
        assert fetched(account, elsewhere(account, script), temp).read_bytes() == CLIP


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
    with pytest.raises(UnavailableError, match=f"is incomplete, {BIG // 2} bytes are missing"):
        fetched(account, task, temp)
    assert not list(temp.iterdir())


# -- what is not a video


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
    with scripted(answer) as script, pytest.raises(UnavailableError, match="is not a video") as caught:
        fetched(account, elsewhere(account, script), temp)
    assert words in str(caught.value)
    assert not list(temp.iterdir())


@pytest.mark.parametrize("kind", ["html", "empty"])
def test_what_the_sandbox_gives_in_place_of_a_video_is_refused(
    kind: str, quick: Sandbox, account: Account, temp: Path
) -> None:
    task = finished(account)
    quick.misbehave("download", kind)
    with pytest.raises(UnavailableError, match="is not a video") as caught:
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
    quick: Sandbox, account: Account, temp: Path, environment: Environment
) -> None:
    environment.set("KLING_MAX_VIDEO_MB", "1")
    task = big(quick, account, size=(1 << 20) + 1)
    quick.misbehave("download", "stall:0")
    with pytest.raises(SetupError, match="larger than the 1 MB that are allowed") as caught:
        fetched(account, task, temp)
    assert len(files(quick)) == 1
    assert f"task_id {task.task_id}" in str(caught.value)
    assert not list(temp.iterdir())
    environment.set("KLING_MAX_VIDEO_MB", "2")
    assert fetched(account, task, temp).read_bytes() == whole(quick, task)


def test_a_video_over_the_cap_is_refused_while_it_comes(
    quick: Sandbox, account: Account, temp: Path, environment: Environment
) -> None:
    environment.set("KLING_MAX_VIDEO_MB", "1")
    task = big(quick, account, size=(1 << 20) + 1)
    quick.misbehave("download", "no-length")
    with pytest.raises(SetupError, match="larger than the 1 MB that are allowed"):
        fetched(account, task, temp)
    assert not list(temp.iterdir())


def test_a_video_that_grew_over_the_cap_is_refused(account: Account, temp: Path, environment: Environment) -> None:
    environment.set("KLING_MAX_VIDEO_MB", "1")
    chunk = f"{CUT:x}".encode() + b"\r\n" + FILM[:CUT] + b"\r\n"
    rest = says(b"?", 'ETag: "1"', f"Content-Range: bytes {CUT}-{1 << 20}/{1 << 21}", status="206 Partial Content")
    with (
        scripted(says(chunk, 'ETag: "1"', "Transfer-Encoding: chunked", length=-1), rest) as script,
        pytest.raises(SetupError, match="larger than the 1 MB that are allowed"),
    ):
        fetched(account, elsewhere(account, script), temp)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "2 GB", "unlimited", "²", "9" * 40])
def test_a_cap_that_makes_no_sense_is_an_error(text: str, environment: Environment) -> None:
    environment.set("KLING_MAX_VIDEO_MB", text)
    with pytest.raises(SetupError, match="KLING_MAX_VIDEO_MB must be a whole number of megabytes"):
        max_bytes()


@pytest.mark.parametrize(("text", "megabytes"), [("", 2048), ("  ", 2048), (" 5 ", 5), ("100000", 100_000)])
def test_a_cap_is_read_when_it_is_used(text: str, megabytes: int, environment: Environment) -> None:
    environment.set("KLING_MAX_VIDEO_MB", text)
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
