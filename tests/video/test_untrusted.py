"""Where a link may lead, and what the server behind it is told: nothing that is secret, nothing of this network."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import KEY
from environment import Environment
from videos import CLIP, fetched, files, says, scripted, whole
from watching import finished, open_gateway

from nodes.api.errors import SetupError, UnavailableError
from nodes.api.gateway.answer import Task
from nodes.api.submit.account import Account
from nodes.sandbox import Sandbox

pytest_plugins = ["watching", "videos"]


@pytest.fixture
def account(quick: Sandbox, tmp_path: Path) -> Account:
    return open_gateway(quick, tmp_path)


# -- what a stranger's server is told, and where it may send us


def test_the_result_url_gets_no_key_and_no_cookie(quick: Sandbox, account: Account, temp: Path) -> None:
    fetched(account, finished(account), temp)
    assert len(files(quick)) == 1
    assert not {"authorization", "cookie", "proxy-authorization"} & set(files(quick)[0].headers)
    assert KEY not in repr(files(quick)[0].headers)
    assert not quick.warnings


def test_a_proxy_of_the_environment_is_used_without_a_password_from_netrc(
    account: Account, temp: Path, tmp_path: Path, environment: Environment
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine video.example login me password secret", encoding="utf-8")
    environment.set("NETRC", str(netrc))
    cookie = says(b"", "Set-Cookie: a=b", "Location: http://video.example/two", status="302 Found")
    with scripted(cookie, says(CLIP)) as proxy:
        environment.set("http_proxy", proxy.url)
        abroad = open_gateway("https://gateway.example/kling", tmp_path / "abroad")
        path = fetched(abroad, Task("1", url="http://user:pass@video.example/one"), temp)
    assert path.read_bytes() == CLIP
    assert [path for path, _ in proxy.asked] == ["http://video.example/one", "http://video.example/two"]
    for _, headers in proxy.asked:
        assert not {"authorization", "cookie", "proxy-authorization"} & set(headers)


def test_a_server_on_this_computer_is_asked_without_the_proxy(
    quick: Sandbox, account: Account, temp: Path, environment: Environment
) -> None:
    with scripted() as proxy:
        environment.set("http_proxy", proxy.url)
        task = finished(account)
        assert fetched(account, task, temp).read_bytes() == whole(quick, task)
    assert proxy.asked == []


def test_redirects_are_followed(quick: Sandbox, account: Account, temp: Path) -> None:
    task = finished(account)
    path = str(task.url).removeprefix(quick.origin)
    quick.misbehave("download", f"redirect:{task.url}", f"redirect:{path}")
    assert fetched(account, task, temp).read_bytes() == whole(quick, task)


def test_redirects_without_end_are_an_error(quick: Sandbox, account: Account, temp: Path) -> None:
    task = finished(account)
    quick.misbehave("download", *[f"redirect:{task.url}"] * 50)
    with pytest.raises(UnavailableError, match="redirects too many times"):
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
    with pytest.raises(SetupError, match="a video link that is not"):
        fetched(account, replace(task, url=target), temp)
    quick.misbehave("download", f"redirect:{target}")
    with pytest.raises(SetupError, match="a video link that is not") as caught:
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
        with pytest.raises(SetupError) as caught:
            fetched(abroad, Task("1", url=url), temp)
        assert re.search("leads to a private address|is not a valid address", str(caught.value))
    assert inside.asked == []


@pytest.mark.parametrize(
    "host",
    [
        *("10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "127.8.8.8"),
        *("[::1]", "[fd00::1]", "[fe80::1]", "[::ffff:10.0.0.1]", "[::ffff:100.64.0.1]", "[::ffff:127.0.0.1]"),
    ],
)
def test_nor_into_its_network_not_even_through_a_proxy(
    host: str, abroad: Account, temp: Path, environment: Environment
) -> None:
    with scripted() as proxy:
        environment.set("http_proxy", proxy.url)
        with pytest.raises(SetupError, match="leads to a private address"):
            fetched(abroad, Task("1", url=f"http://{host}/latest"), temp)
    assert proxy.asked == []


def test_nor_by_a_redirect(abroad: Account, temp: Path, environment: Environment) -> None:
    with scripted(says(b"", "Location: http://10.0.0.1/", status="302 Found")) as proxy:
        environment.set("http_proxy", proxy.url)
        with pytest.raises(SetupError, match="leads to a private address"):
            fetched(abroad, Task("1", url="http://video.example/"), temp)
    assert [path for path, _ in proxy.asked] == ["http://video.example/"]


@pytest.mark.parametrize(
    "host",
    [
        *("198.18.0.5", "[::ffff:198.18.0.5]", "[fc00::5]", "93.184.216.34", "[::ffff:93.184.216.34]", "video.example"),
        *(
            "[2606:4700:4700::1111]",
            "VIDEO.example:8080",
            "my_video.example",
            "video.example.",
            "vidéo.example",
            "3.example",
        ),
        *("[64:ff9b::93.184.216.34]", "[64:ff9b:1::93.184.216.34]", "[64:ff9b:1:5db8:d8:2200::]"),
        *("[64:ff9b:1:5d:b8:d822::]", "[64:ff9b:1:0:5d:b8d8:2200:0]"),
    ],
)
def test_public_addresses_and_those_of_tunnels_are_asked(
    host: str, abroad: Account, temp: Path, environment: Environment
) -> None:
    with scripted(says(CLIP)) as proxy:
        environment.set("http_proxy", proxy.url)
        assert fetched(abroad, Task("1", url=f"http://{host}/clip"), temp).read_bytes() == CLIP


def test_a_gateway_in_a_private_network_may_serve_its_own_files(
    tmp_path: Path, temp: Path, environment: Environment
) -> None:
    account = open_gateway("https://10.1.2.3/kling", tmp_path)
    with scripted(says(CLIP)) as proxy:
        environment.set("http_proxy", proxy.url)
        assert fetched(account, Task("1", url="http://10.1.2.3/clip"), temp).read_bytes() == CLIP
