"""The key, the base URL and the state directory: what is taken, what is refused, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import KEY
from environment import Environment

from nodes.api import settings
from nodes.api.errors import SetupError
from nodes.api.settings import Settings, base_url, clean_key, find_key, is_loopback, load, state_dir


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A state directory."""
    path = tmp_path / "state"
    path.mkdir()
    return path


def refusal(url: str, environment: Environment) -> str:
    environment.set("KLING_BASE_URL", url)
    with pytest.raises(SetupError) as caught:
        base_url()
    return str(caught.value)


# The key

PASTED = [
    KEY,
    f"  {KEY}\t",
    f"{KEY}\n",
    f"\r\n{KEY}\r\n",
    f'"{KEY}"',
    f"'{KEY}'",
    f'" {KEY} "',
    f"Bearer {KEY}",
    f"bearer {KEY}",
    f"BEARER\t{KEY}",
    f" Bearer  {KEY} ",
    f'"Bearer {KEY}"',
    f'Bearer "{KEY}"',
    f"Authorization: Bearer {KEY}",
]


@pytest.mark.parametrize("text", PASTED, ids=ascii)
def test_what_is_pasted_along_with_a_key_is_taken_off(text: str, environment: Environment, directory: Path):
    environment.set("KLING_API_KEY", text)
    assert find_key(directory).get_secret_value() == KEY


@pytest.mark.parametrize("text", PASTED, ids=ascii)
def test_the_same_goes_for_the_saved_key(text: str, directory: Path):
    (directory / "api_key").write_bytes(text.encode())
    assert find_key(directory).get_secret_value() == KEY


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"{KEY} {KEY}", "a space or line break at position 25"),
        ("sk-test\nsk-rest", "a space or line break at position 8"),
        ("sk-test\r\nX-Header: 1", "a space or line break at position 8"),
        ("sk\u00a0test", "a space or line break at position 3"),
        ("sk-tést", "an invalid character at position 5"),
        ("sk-тест", "an invalid character at position 4"),
        ("sk-😀", "an invalid character at position 4"),
        ("sk-\u200btest", "an invalid character at position 4"),
        ("sk-\x07test", "an invalid character at position 4"),
        ("sk-\x7f", "an invalid character at position 4"),
    ],
    ids=ascii,
)
def test_what_cannot_be_a_key_is_refused_without_showing_it(
    text: str, told: str, environment: Environment, directory: Path
):
    environment.set("KLING_API_KEY", text)
    with pytest.raises(SetupError) as caught:
        find_key(directory)
    assert str(caught.value) == f"KLING_API_KEY has {told}. Copy the whole key again, and nothing else."
    (directory / "api_key").write_text(text, encoding="utf-8")
    environment.unset("KLING_API_KEY")
    with pytest.raises(SetupError, match=r"^The saved key has an? "):
        find_key(directory)


@pytest.mark.parametrize("text", ['""', "''", "Bearer", "Bearer ", '"Bearer "', "Authorization: Bearer"])
def test_a_key_of_nothing_but_wrapping_is_empty(text: str, environment: Environment, directory: Path):
    environment.set("KLING_API_KEY", text)
    with pytest.raises(SetupError, match=r"^KLING_API_KEY is empty\. Create a key"):
        find_key(directory)


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_a_missing_key_says_where_to_get_one_and_where_to_put_it(text: str, environment: Environment, directory: Path):
    environment.set("KLING_API_KEY", text)
    (directory / "api_key").write_text(text, encoding="utf-8")
    with pytest.raises(SetupError) as caught:
        find_key(directory)
    message = str(caught.value)
    assert message.startswith("No API key is set. Create a key on the gateway's website")
    assert "environment variable KLING_API_KEY" in message
    assert "Settings > Kling" in message
    assert "Never put it into a workflow." in message


def test_the_environment_wins_over_the_file(environment: Environment, directory: Path):
    (directory / "api_key").write_text("sk-from-the-file", encoding="utf-8")
    assert find_key(directory).get_secret_value() == "sk-from-the-file"
    environment.set("KLING_API_KEY", KEY)
    assert find_key(directory).get_secret_value() == KEY


def test_another_saved_key_is_used_in_the_next_run(directory: Path):
    for key in ("sk-first", "sk-second"):
        (directory / "api_key").write_text(key, encoding="utf-8")
        assert load(directory).key.get_secret_value() == key


def test_a_file_with_a_byte_order_mark_is_read(directory: Path):
    (directory / "api_key").write_text(f"{KEY}\n", encoding="utf-8-sig")
    assert find_key(directory).get_secret_value() == KEY


def test_a_file_that_is_no_text_is_refused_with_a_way_out(directory: Path):
    (directory / "api_key").write_text(KEY, encoding="utf-16")
    with pytest.raises(SetupError, match=r"cannot be read\. Enter it again under Settings > Kling"):
        find_key(directory)


def test_a_directory_in_place_of_the_file_is_refused_without_its_path(directory: Path):
    (directory / "api_key").mkdir()
    with pytest.raises(SetupError) as caught:
        find_key(directory)
    assert str(directory) not in str(caught.value)


def test_a_state_directory_that_is_not_there_has_no_key(tmp_path: Path):
    with pytest.raises(SetupError, match="No API key is set"):
        find_key(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_key_may_hold_any_visible_ascii_character():
    key = "!#$%&()*+,-./:;<=>?@[]^_`{|}~azAZ09"
    assert clean_key(key, "It").get_secret_value() == key


# The base URL


def test_the_base_url_is_the_gateways_unless_the_environment_says_otherwise(environment: Environment):
    assert base_url() == "https://www.kkiai.com/kling"
    environment.set("KLING_BASE_URL", "")
    assert base_url() == "https://www.kkiai.com/kling"


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("https://gw.example", "https://gw.example"),
        ("https://gw.example/", "https://gw.example"),
        ("https://gw.example//", "https://gw.example"),
        ("https://gw.example/kling/", "https://gw.example/kling"),
        ("  https://gw.example/kling \n", "https://gw.example/kling"),
        ('"https://gw.example/kling"', "https://gw.example/kling"),
        ("https://gw.example/kling/v1/videos/text2video", "https://gw.example/kling"),
        ("https://gw.example/kling/v1/videos/text2video/", "https://gw.example/kling"),
        ("https://gw.example/kling//v1/videos/text2video", "https://gw.example/kling"),
        ("https://gw.example/v1/videos/text2video", "https://gw.example"),
        ("https://gw.example:8443/kling", "https://gw.example:8443/kling"),
        ("https://10.0.0.5/kling", "https://10.0.0.5/kling"),
        ("https://[2001:db8::1]:8443/kling", "https://[2001:db8::1]:8443/kling"),
        ("https://münchen.example/kling", "https://münchen.example/kling"),
        # One gateway has one address, however it is spelled: another spelling would pay again.
        ("HTTPS://GW.Example/kling", "https://gw.example/kling"),
        ("https://gw.example:443/kling", "https://gw.example/kling"),
        ("http://localhost:80/kling", "http://localhost/kling"),
    ],
)
def test_a_base_url_is_read_in_the_forms_that_people_write(url: str, meant: str, environment: Environment):
    environment.set("KLING_BASE_URL", url)
    assert base_url() == meant


@pytest.mark.parametrize(
    "url", ["http://localhost:8000/k", "http://127.0.0.1:8000/k", "http://127.9.9.9/k", "http://[::1]:8000/k"]
)
def test_plain_http_is_taken_for_this_computer(url: str, environment: Environment):
    environment.set("KLING_BASE_URL", url)
    assert base_url() == url


@pytest.mark.parametrize(
    "url",
    [
        "http://www.kkiai.com/kling",
        "HTTP://gw.example",
        "http://10.0.0.5:8000",
        "http://192.168.1.2",
        "http://localhost.example",
        "http://127.0.0.1.example",
        "http://0.0.0.0:8000",
        "http://[fe80::1]:8000",
        "http://127.1:8000",
        "http://2130706433:8000",
    ],
)
def test_plain_http_to_anywhere_else_is_refused(url: str, environment: Environment):
    told = refusal(url, environment)
    assert told.startswith("KLING_BASE_URL is plain http, which would send the key unencrypted.")
    assert "Use https" in told


@pytest.mark.parametrize(
    "url",
    [
        "https://user:secret@gw.example/kling",
        "https://user@gw.example",
        "https://@gw.example",
        "https://:@gw.example",
        "https://www.kkiai.com\\@gw.example",
        "http://localhost\\.gw.example",
        "https://gw.example/kling?key=1",
        "https://gw.example/kling?",
        "https://gw.example/kling#top",
        "https://gw.example/kling#",
        "http://localhost#@gw.example",
    ],
)
def test_a_base_url_with_more_than_host_and_path_is_refused(url: str, environment: Environment):
    told = refusal(url, environment)
    assert told == (
        "KLING_BASE_URL may contain only a host and a path. Correct KLING_BASE_URL, or unset it to use the default,"
        " and restart ComfyUI."
    )


@pytest.mark.parametrize(
    "url",
    [
        "gw.example/kling",
        "//gw.example",
        "ftp://gw.example",
        "file:///etc/passwd",
        "https:gw.example",
        "https://",
        "https:///kling",
        "https://gw example",
        "https://gw.example/a\nb",
        "https://gw.example/a\tb",
        "https://gw.example/a\x01b",
        "https://[::1",
        "https://gw.example:port",
        "https://gw.example:99999",
        "https://a..b",
        "https://" + "a" * 70 + ".example",
    ],
    ids=ascii,
)
def test_what_is_no_base_url_is_refused_without_showing_it(url: str, environment: Environment):
    told = refusal(url, environment)
    assert told.startswith("KLING_BASE_URL ")
    assert told.endswith("Correct KLING_BASE_URL, or unset it to use the default, and restart ComfyUI.")
    assert "gw" not in told


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("localhost", True), ("127.0.0.1", True), ("::1", True), ("gw.example", False), ("", False), ("10.0.0.1", False)],
)
def test_only_this_computer_is_loopback(host: str, loopback: bool):
    assert is_loopback(host) is loopback


def test_nothing_but_the_environment_chooses_where_the_key_goes(directory: Path):
    for name in ("base_url", "KLING_BASE_URL", "settings.json", ".env"):
        (directory / name).write_text("https://evil.example", encoding="utf-8")
    (directory / "api_key").write_text(KEY, encoding="utf-8")
    assert load(directory).base_url == "https://www.kkiai.com/kling"


# The state directory


def test_the_state_directory_is_the_hosts_unless_the_environment_says_otherwise(
    tmp_path: Path, environment: Environment
):
    assert state_dir(tmp_path / "host") == tmp_path / "state"
    for unset in ("", "  "):
        environment.set("KLING_STATE_DIR", unset)
        assert state_dir(tmp_path / "host") == tmp_path / "host"


@pytest.mark.parametrize("spelling", ["{}", " {} ", '"{}"', "{}/"])
def test_a_state_directory_is_read_in_the_forms_that_people_write(
    spelling: str, tmp_path: Path, environment: Environment
):
    environment.set("KLING_STATE_DIR", spelling.format(tmp_path / "a b"))
    assert state_dir(Path("/other")) == tmp_path / "a b"


def test_a_tilde_stands_for_the_home_directory(tmp_path: Path, environment: Environment):
    environment.set("HOME", str(tmp_path))
    environment.set("USERPROFILE", str(tmp_path))
    environment.set("KLING_STATE_DIR", "~/kling")
    assert state_dir(Path("/other")) == tmp_path / "kling"


@pytest.mark.parametrize("path", ["state", "./state", "../state", ".", "~no-such-user-of-this-computer/state"])
def test_a_path_that_depends_on_where_comfyui_starts_is_refused(path: str, environment: Environment):
    environment.set("KLING_STATE_DIR", path)
    with pytest.raises(SetupError) as caught:
        state_dir(Path("/other"))
    assert str(caught.value).startswith("KLING_STATE_DIR must be an absolute path (~ is allowed)")


# All of them


def test_reading_settings_makes_nothing(tmp_path: Path, environment: Environment):
    environment.set("KLING_API_KEY", KEY)
    load(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_repr_shows_key_host_or_path(tmp_path: Path, environment: Environment):
    environment.set("KLING_API_KEY", KEY)
    found = load(tmp_path)
    assert isinstance(found, Settings)
    for shown in (repr(found), str(found), f"{found}"):
        assert KEY not in shown
        assert "kkiai" not in shown
        assert str(tmp_path) not in shown


def test_what_needs_no_key_is_read_without_one(tmp_path: Path):
    found = settings.without_key(tmp_path)
    assert found.key.get_secret_value() == ""
    assert found.base_url == "https://www.kkiai.com/kling"


def test_settings_that_are_equal_are_one(tmp_path: Path, environment: Environment):
    environment.set("KLING_API_KEY", KEY)
    assert load(tmp_path) == load(tmp_path)
    assert hash(load(tmp_path)) == hash(load(tmp_path))
    environment.set("KLING_API_KEY", "sk-other")
    assert load(tmp_path).key.get_secret_value() == "sk-other"
