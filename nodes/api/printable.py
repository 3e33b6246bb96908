"""The last door for text from strangers before it is shown: ids and words of a gateway, names in workflow files."""

from __future__ import annotations

from unicodedata import category

_HIDDEN = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
"""Unicode's categories of what a terminal obeys or does not show: controls, direction marks, zero-width characters,
line separators and halves of surrogate pairs."""

_JOINER = "\u200d"


def printable(text: str, keep: str = "") -> str:
    """``text`` with JSON's escapes for everything that could forge a line, turn one around, or hide.

    Args:
        keep: characters that stay, such as the line breaks of a text that has several lines.
    """
    if text.isprintable():
        return text
    shown = (c in keep or category(c) not in _HIDDEN or _joins(text, i) for i, c in enumerate(text))
    return "".join(c if is_shown else _escaped(c) for c, is_shown in zip(text, shown, strict=True))


def _joins(text: str, i: int) -> bool:
    """Whether the character is a joiner inside an emoji. A family of three is one emoji of three joined ones."""
    if text[i] != _JOINER or not 0 < i < len(text) - 1:
        return False
    # Between them may be a mark for the style or the colour of the skin.
    return category(text[i - 1]) in ("So", "Sk", "Mn") and category(text[i + 1]) == "So"


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{high:02x}{low:02x}" for high, low in zip(units[::2], units[1::2], strict=True))
