"""A server of a few lines that answers as oddly as a test wants, and clients for it."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from bodies import SENT
from conftest import KEY
from pydantic import SecretStr

from nodes.api.gateway.client import Client
from nodes.api.settings import Settings

BODY: dict[str, Any] = {**SENT, "model_name": "kling-v1", "prompt": "Ein Boot im Fluß 🚣", "external_task_id": "boat-1"}
ACCEPTED = json.dumps({"code": 0, "message": "SUCCEED", "data": {"task_id": "866889456698785798"}}).encode()


def client(base_url: str, key: str = KEY, **options: Any) -> Client:
    return Client(Settings(base_url, Path("unused"), SecretStr(key)), **options)


@contextmanager
def wire(
    answer: Callable[[socket.socket], None], *, context: ssl.SSLContext | None = None, listens: bool = True
) -> Iterator[tuple[str, list[bytes]]]:
    """A server that hands each connection to ``answer`` once per request; gives its base URL and the requests.

    With ``listens`` false it answers before anything was asked.
    """
    received: list[bytes] = []
    talks: list[socket.socket] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                talk, _ = listener.accept()
                talks.append(talk)
                with suppress(OSError):
                    converse(context.wrap_socket(talk, server_side=True) if context else talk)

    def converse(talk: socket.socket) -> None:
        talks.append(talk)
        if not listens:
            answer(talk)
            return
        while request := _read_request(talk):
            received.append(request)
            answer(talk)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http{'s' if context else ''}://127.0.0.1:{listener.getsockname()[1]}/kling", received
    finally:
        # A thread that waits in accept() or recv() is not woken by closing its socket, on every system.
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        with suppress(OSError):
            socket.create_connection(listener.getsockname(), timeout=1).close()
        listener.close()
        for talk in talks:
            with suppress(OSError):
                talk.shutdown(socket.SHUT_RDWR)
            talk.close()
        thread.join(timeout=5)


def _read_request(talk: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = talk.recv(65536)
        if not piece:
            return b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in head.splitlines() if line.lower().startswith(b"content-length:")), 0
    )
    while len(body) < length:
        body += talk.recv(65536)
    return head + b"\r\n\r\n" + body


def http(body: bytes, *headers: str, length: int | None = None, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def sends(data: bytes) -> Callable[[socket.socket], None]:
    return lambda talk: talk.sendall(data)


def sends_and_closes(data: bytes) -> Callable[[socket.socket], None]:
    def answer(talk: socket.socket) -> None:
        talk.sendall(data)
        talk.shutdown(socket.SHUT_RDWR)

    return answer


needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")

_CERTIFICATE = """
[req]
prompt = no
distinguished_name = name
x509_extensions = extensions
[name]
CN = 127.0.0.1
[extensions]
subjectAltName = IP:127.0.0.1
basicConstraints = critical, CA:true
keyUsage = critical, digitalSignature, keyCertSign
subjectKeyIdentifier = hash
"""


def certified(directory: Path) -> tuple[ssl.SSLContext, Path]:
    """What a server on this computer needs for TLS, and the certificate that a client has to trust for it."""
    (directory / "certificate.cnf").write_text(_CERTIFICATE, encoding="utf-8")
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-config", "certificate.cnf"]
    subprocess.run([*made, "-keyout", "key.pem", "-out", "cert.pem"], cwd=directory, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    return context, directory / "cert.pem"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
