"""Text from strangers, made safe to store and to show: ids, words and messages in the answers of a gateway."""

from __future__ import annotations

import re

ID_MAX = 256
"""The longest id that is read, in characters. Kling's have 18, the longest known ones of relays 37."""


def one_line(text: str) -> str:
    """Foreign text made safe to show: on one line, with spaces for control, formatting and other invisible characters.

    A line break or an escape sequence could forge a line of a terminal, and a direction mark could turn one around.
    """
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def first_words(body: bytes) -> str:
    """How an unexpected answer begins, for a message: without markup, on one line."""
    text = re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", body[:4000].decode("utf-8", "replace"), flags=re.S | re.I)
    words = one_line(text)
    return f'it begins with "{words[:80]}"' if words else "it is empty"


def usable_id(value: object) -> str | None:
    """An id, or None for what cannot be one: it must survive being stored, shown and put into an address."""
    text = value.strip() if isinstance(value, str) else as_text(value)
    # Bytes that are not UTF-8 become U+FFFD, so with it the id is not known.
    return text if text and text.isprintable() and "\ufffd" not in text and len(text) <= ID_MAX else None


def as_text(value: object) -> str | None:
    """A word as text. It may be a JSON number, but not a boolean, which Python makes an ``int``."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        return None
    # JSON may contain half of a surrogate pair, which can be neither stored nor shown.
    return value.encode("utf-8", "replace").decode("utf-8").strip() or None


def in_words(value: object, most: int = 500) -> str:
    """A message for the user: on one line, without control characters, cut to a readable length."""
    text = one_line(as_text(value) or "")
    return text if len(text) <= most else f"{text[:most]}..."
