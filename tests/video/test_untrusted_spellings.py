"""A thousand ways to write the address of an inner server: none reaches it, whatever the gateway's own address is."""

from __future__ import annotations

import ipaddress
import re
import socket
import socketserver
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
import requests
from environment import Environment
from videos import CLIP, says, scripted

from nodes.api.errors import KlingError, SetupError
from nodes.api.video import untrusted

GATEWAYS = ["https://93.184.216.34/kling", "https://gateway.example/kling", "https://10.1.2.3/kling"]
OTHER_INNER = ["10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "10.1.2.4"]


class Server(socketserver.ThreadingTCPServer):
    """Keeps the first line of whatever arrives, also if it is no HTTP, and answers with a video."""

    daemon_threads = True
    arrived: list[bytes]


class Handler(socketserver.StreamRequestHandler):
    server: Server

    def handle(self) -> None:
        line = self.rfile.readline(1000)
        if line:
            self.server.arrived.append(line)
        with suppress(OSError):
            while line not in (b"", b"\r\n"):
                line = self.rfile.readline(10_000)
            self.wfile.write(says(CLIP, "Connection: close"))


@contextmanager
def listening(address: str = "127.0.0.1") -> Iterator[Server]:
    with Server((address, 0), Handler) as server:
        server.arrived = []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def follow(url: str, gateway: str) -> str:
    """What came of it, in one word."""
    try:
        with untrusted.opened(url, gateway, {"Accept-Encoding": "identity"}, silence=20) as response:
            return f"HTTP {response.status_code}"
    except (KlingError, requests.RequestException, OSError) as error:
        return type(error).__name__


# -- the spellings


def v4_spellings(text: str) -> list[str]:
    address = ipaddress.IPv4Address(text)
    number, (a, b, c, d) = int(address), address.packed
    rest = (b << 16) + (c << 8) + d
    dotted = [
        text,
        *(f"{text}.", f"{text}..", f".{text}", text.replace(".", ".."), f"{text}%00", f"{text}%20", f"{text}%2e"),
        *(f"{a}.{rest}", f"{a}.{b}.{(c << 8) + d}", f"{a}.{rest:#x}", f"{a:#o}.{rest}".replace("o", "")),
        *(f"{a:#x}.{b:#x}.{c:#x}.{d:#x}", f"{a:#X}.{b}.{c}.{d}", f"0{a:o}.0{b:o}.0{c:o}.0{d:o}", f"0{a:o}.{b}.{c}.{d}"),
        *(f"{a:03}.{b:03}.{c:03}.{d:03}", f"000{a:o}.{b}.{c}.{d:#x}", f"{a + 256}.{b}.{c}.{d}"),
        *(str(number), f"{number:#x}", f"{number:#X}", f"0{number:o}", f"00{number:o}", str(number + (1 << 32))),
        *(f"{number}.", f"{number:#x}.", f"{a}.{rest}."),
        text.replace(".", "%2e"),
        "".join(f"%{ord(character):02x}" for character in text),
        text.translate({ord("0") + digit: 0xFF10 + digit for digit in range(10)}),
        text.translate({ord("0") + digit: 0x1D7D8 + digit for digit in range(10)}),
        text.translate({ord("1") + digit: 0x2460 + digit for digit in range(9)}),
        text.translate({ord("0") + digit: 0x0660 + digit for digit in range(10)}),
        *(text.replace(".", dot) for dot in "\u3002\uff0e\uff61"),
        text.replace(".", ".\u200b"),
        text.replace(".", ".\u00ad"),
    ]
    return [*dotted, *v6_spellings(address)]


def v6_spellings(inner: ipaddress.IPv4Address) -> list[str]:
    """IPv6 addresses that a system, a router or a tunnel turns into ``inner``."""
    a, b, c, d = inner.packed
    high, low = f"{(a << 8) + b:x}", f"{(c << 8) + d:x}"
    return [
        *(f"[::ffff:{inner}]", f"[::ffff:{high}:{low}]", f"[0:0:0:0:0:FFFF:{inner}]", f"[::ffff:{inner}%251]"),
        *(f"[::{inner}]", f"[::{high}:{low}]", f"[::ffff:0:{inner}]", f"[::ffff:0:{high}:{low}]"),
        *(f"[64:ff9b::{inner}]", f"[64:FF9B::{high}:{low}]", f"[0064:ff9b:0:0:0:0:{inner}]"),
        *(f"[64:ff9b:1::{inner}]", f"[64:ff9b:1::{high}:{low}]", f"[64:ff9b:1:ffff::{inner}]"),
        # RFC 6052, 2.2: after 48, 56 and 64 bits. A translator ignores what follows.
        *(f"[64:ff9b:1:{high}:{c:x}:{d << 8:x}::]", f"[64:ff9b:1:{high}:{c:x}:{d << 8:x}:5db8:d822]"),
        *(f"[64:ff9b:1:{a:x}:{b:x}:{low}::]", f"[64:ff9b:1:0:{a:x}:{(b << 8) + c:x}:{d << 8:x}:0]"),
        *(f"[2002:{high}:{low}::]", f"[2002:{high}:{low}::1]", f"[2002:{high}:{low}:0:0:5efe:{inner}]"),
        # Teredo: as the server, and as the client with all bits inverted.
        f"[2001:0:{high}:{low}::]",
        f"[2001:0:4136:e378:8000:63bf:{0xFFFF ^ int(high, 16):x}:{0xFFFF ^ int(low, 16):x}]",
    ]


NAMES = ["localhost", "LOCALHOST", "localhost.", "x.localhost", "ｌocalhost", "loc\u00adalhost", "local%68ost"]
OWN_V6 = [
    *("[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[0000::0001]", "[::1%25lo]", "[::1%lo]", "[::1%251]", "[::1%2525lo]"),
    *("::1", "[::1].", "[::1", "::1]", "[[::1]]", "[v1.::1]", "[::１]"),
]
INNER_V6 = [
    *("[fe80::1]", "[fe80::1%25eth0]", "[fe80::1%1]", "[fd00::1]", "[fdff:ffff::1]", "[fc80::1]", "[fec0::1]"),
    *("[feff::1]", "[ff02::1]", "[100::1]", "[64:ff9b:2::1]", "[4000::1]", "[2001:db8::1]"),
]


def dressed(host: str, port: int, gateway: str) -> list[str]:
    """URLs around a host. Those in which another parser sees the gateway begin with it or end with it."""
    at = f"{host}:{port}"
    return [
        *(f"http://{at}/", f"https://{at}/", f"HTTP://{at}", f"http://{host}:0{port}/?x#y"),
        *(f"http://user:pass@{at}/", f"http://{gateway}@{at}/", f"https://{gateway}:443@{at}/", f"http://a@b@{at}/"),
        *(f"http://{at}\\@{gateway}/", f"http://{at}\\{gateway}/", f"http://{gateway}\\@{at}/", f"http:\\\\{at}/"),
        *(f" http://{at}/", f"http://{at} /", f"http://{at}\t/", f"ht\ntp://{at}/", f"http://\x00{at}/"),
        *(f"http:/{at}/", f"http:{at}", f"http:///{at}/", f"//{at}/", f"http+x://{at}/", f"ftp://{at}/"),
    ]


def spellings(inner_port: int, gateway: str) -> list[str]:
    this_computer = [*v4_spellings("127.0.0.1"), *v4_spellings("127.8.8.8"), "0.0.0.0", "0", *NAMES, *OWN_V6]
    plain = [host for address in OTHER_INNER for host in v4_spellings(address)] + INNER_V6
    urls = [url for host in this_computer for url in dressed(host, inner_port, gateway)]
    return list(dict.fromkeys([*urls, *(f"http://{host}/" for host in plain), *(f"https://{host}/" for host in plain)]))


def test_no_spelling_reaches_an_inner_server() -> None:
    """Without a proxy. The server is real, and counts bytes: over TLS, even the hello would tell."""
    outcomes: Counter[str] = Counter()
    with listening() as inner:
        port = inner.server_address[1]
        for gateway in GATEWAYS:
            urls = spellings(port, str(gateway.split("/")[2]))
            assert len(urls) > 1000
            for url in urls:
                outcomes[follow(url, gateway)] += 1
                assert inner.arrived == [], url
    assert outcomes.keys() == {"SetupError"}, outcomes


@pytest.mark.parametrize("gateway", GATEWAYS)
def test_nor_through_a_proxy(gateway: str, environment: Environment) -> None:
    """A proxy connects where it is told, and reads addresses in its own way."""
    own = gateway.split("/")[2]
    # In these, the inner server is only a password, a path or a fragment.
    decoys = [f"http://127.0.0.1{mark}{own}/" for mark in ("@", ":80@", "%5c@", "%00@", ";@")]
    decoys += [f"http://{own}{mark}127.0.0.1/" for mark in ("#@", "/@", "?@")]
    with listening() as proxy:
        for name in ("http_proxy", "https_proxy"):
            environment.set(name, f"http://127.0.0.1:{proxy.server_address[1]}")
        for url in spellings(8188, own):
            assert (follow(url, gateway), proxy.arrived) == ("SetupError", []), url
        for url in decoys:
            assert follow(url, gateway) == "HTTP 200", url
    assert [line[: len(f"GET http://{own}/")].decode() for line in proxy.arrived] == [f"GET http://{own}/"] * len(
        decoys
    )


@pytest.mark.parametrize("gateway", GATEWAYS)
def test_nor_by_a_redirect(gateway: str, environment: Environment) -> None:
    # A relative address is one of the public server, and a header cannot carry a line break.
    urls = [url for url in spellings(8188, "public.example") if re.match("(https?:)?//[^/]", url) and url.isprintable()]
    urls = urls[::10]
    with scripted(*(says(b"", f"Location: {url}", status="302 Found") for url in urls)) as proxy:
        environment.set("http_proxy", proxy.url)
        for url in urls:
            assert follow("http://public.example/", gateway) == "SetupError", url
    assert {path for path, _ in proxy.asked} == {"http://public.example/"}
    assert len(proxy.asked) == len(urls) > 200


# -- names


@pytest.fixture
def own_address() -> str:
    """What the name of this computer stands for: an address of its own, and one that the pack cannot know before."""
    try:
        address = socket.gethostbyname(socket.gethostname())
    except OSError:
        pytest.skip("this computer's name has no address")
    if ipaddress.ip_address(address).is_global:
        pytest.skip("this computer's name has a public address")
    return address


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("gateway", [*GATEWAYS, "its own name"])
def test_a_name_of_an_inner_server_gets_no_byte(gateway: str, scheme: str, own_address: str) -> None:
    """Not even if it is the gateway's name, on another port."""
    name = socket.gethostname()
    with listening(own_address) as inner:
        url = f"{scheme}://{name}:{inner.server_address[1]}/"
        with pytest.raises(SetupError, match="leads to a private address"):
            untrusted.opened(url, gateway.replace("its own name", f"https://{name}/kling"), {}, 20).__enter__()
        assert inner.arrived == []


def test_a_gateway_serves_from_its_origin_whatever_its_name_stands_for(own_address: str) -> None:
    with listening(own_address) as server:
        origin = f"http://{socket.gethostname()}:{server.server_address[1]}"
        assert follow(f"{origin}/clip.mp4", f"{origin}/kling") == "HTTP 200"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("gateway", ["http://127.0.0.1:1/kling", "http://localhost:1", "http://[::1]:1/kling"])
def test_a_gateway_on_this_computer_serves_from_any_port(gateway: str, host: str) -> None:
    with listening() as server:
        assert follow(f"http://{host}:{server.server_address[1]}/", gateway) == "HTTP 200"


@pytest.mark.parametrize("host", ["10.0.0.1", "192.168.1.1", "127.0.0.2", "[fe80::1]", "[64:ff9b::10.0.0.1]"])
@pytest.mark.parametrize("gateway", ["http://127.0.0.1:1/kling", "http://localhost:1", "https://10.1.2.3/kling"])
def test_but_not_from_other_inner_addresses(gateway: str, host: str) -> None:
    assert follow(f"http://{host}/", gateway) == "SetupError"
