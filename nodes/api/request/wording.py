"""Pydantic's errors in plain words: the value, what is allowed, what to do.

The name of the field is left out. It is in the location of the error, and each caller shows it in its own way.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

_SHOWN = 60


def quoted(value: object) -> str:
    """``value`` as a user can recognise it: short, on one line, and without characters that cannot be encoded."""
    text = repr(value)
    text = text if len(text) <= _SHOWN else f"{text[: _SHOWN - 4]}...{text[0] if text[0] in chr(34) + chr(39) else ''}"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def is_blank(text: str) -> bool:
    """Whether nothing in ``text`` is visible. Pasted text may contain invisible characters such as U+200B or U+FEFF."""
    return all(c.isspace() or unicodedata.category(c) == "Cf" for c in text)


def line_errors(error: ValidationError) -> Iterator[InitErrorDetails]:
    """Pydantic's own errors, reworded. Errors that this pack has worded stay as they are."""
    for detail in error.errors(include_url=False):
        yield {
            "type": PydanticCustomError("problem", "{text}", {"text": reworded(detail)}),
            "loc": detail["loc"],
            "input": detail["input"],
        }


def reworded(detail: ErrorDetails) -> str:
    """One of pydantic's errors in plain words: the value, what is allowed, what to do."""
    value: Any = detail["input"]
    limits = detail.get("ctx", {})
    match detail["type"]:
        case "string_too_long":
            most = limits["max_length"]
            return f"has {len(value)} characters; at most {most} are allowed. Shorten it by {len(value) - most}."
        case "string_too_short":
            return "is empty. Write what happens."
        case "greater_than_equal":
            return f"is {quoted(value)}; the minimum is {limits['ge']:g}. Raise it."
        case "less_than_equal":
            return f"is {quoted(value)}; the maximum is {limits['le']:g}. Lower it."
        case "finite_number":
            return f"is {quoted(value)}; it must be a finite number. Enter one."
        case "literal_error":
            return f"is {quoted(value)}; allowed: {limits['expected'].replace(chr(39), '')}. Choose one of these."
        case "is_instance_of":
            return f"is {quoted(value)} ({type(value).__name__}); only a Kling{limits['class']} can be connected here."
        case "model_type" | "dict_type" | "model_attributes_type":
            return (
                f"is {quoted(value)} ({type(value).__name__}), which cannot be used here."
                " Connect a node of the right kind."
            )
        case "missing":
            return "is missing. Set a value."
        case "extra_forbidden":
            return "is not a field of this request. Remove it."
        case "string_type" | "int_type" | "float_type" | "bool_type" | "int_from_float":
            wanted = {"string": "text", "int": "a whole number", "float": "a number", "bool": "true or false"}
            return (
                f"is {quoted(value)} ({type(value).__name__});"
                f" it must be {wanted[detail['type'].split('_')[0]]}. Correct the value."
            )
        case "string_unicode":
            return _unpaired(value)
        case "problem" | "unwritable" | "http_url" | "callback_host" | "path_segment" | "unknown_model":
            return detail["msg"]
        case _:
            return f"is {quoted(value)}: {detail['msg']}. Correct the value."


def _unpaired(text: str) -> str:
    position = next(i for i, c in enumerate(text, 1) if "\ud800" <= c <= "\udfff")
    code = f"{ord(text[position - 1]):04X}"
    return f"has U+{code} at position {position}, half of a surrogate pair, which cannot be sent. Delete it."
