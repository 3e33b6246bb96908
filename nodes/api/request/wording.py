"""Pydantic's findings in words for a user: what is there, what is allowed, what to do.

The name of the field is left out: it stands in the location of the error, and each caller shows it in its own way.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

_SHOWN = 60


def quoted(value: object) -> str:
    """``value`` as a user can recognise it: short, on one line, and in characters that any console takes."""
    text = repr(value)
    text = text if len(text) <= _SHOWN else f"{text[: _SHOWN - 4]}...{text[0] if text[0] in chr(34) + chr(39) else ''}"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def is_blank(text: str) -> bool:
    """Whether there is nothing to see in ``text``: characters such as U+200B or U+FEFF come along with a paste."""
    return all(c.isspace() or unicodedata.category(c) == "Cf" for c in text)


def line_errors(error: ValidationError) -> Iterator[InitErrorDetails]:
    """Pydantic's own errors, reworded. Errors that are worded already keep their words."""
    for detail in error.errors(include_url=False):
        yield {
            "type": PydanticCustomError("problem", "{text}", {"text": reworded(detail)}),
            "loc": detail["loc"],
            "input": detail["input"],
        }


def reworded(detail: ErrorDetails) -> str:
    """What is there, what is allowed and what to do, for one of pydantic's errors."""
    value: Any = detail["input"]
    limits = detail.get("ctx", {})
    match detail["type"]:
        case "string_too_long":
            most = limits["max_length"]
            return f"has {len(value)} characters; at most {most} are allowed. Shorten it by {len(value) - most}."
        case "string_too_short":
            return "is empty. Write what happens."
        case "greater_than_equal":
            return f"is {quoted(value)}; at least {limits['ge']:g} is allowed. Raise it."
        case "less_than_equal":
            return f"is {quoted(value)}; at most {limits['le']:g} is allowed. Lower it."
        case "finite_number":
            return f"is {quoted(value)}; it must be an ordinary number. Enter one."
        case "literal_error":
            return f"is {quoted(value)}; allowed: {limits['expected'].replace(chr(39), '')}. Choose one of these."
        case "is_instance_of":
            return f"is {quoted(value)}, {type(value).__name__}; only a Kling{limits['class']} can be connected here."
        case "model_type" | "dict_type" | "model_attributes_type":
            return (
                f"is {quoted(value)}, {type(value).__name__}; it cannot be used here. Connect a node of the right kind."
            )
        case "missing":
            return "is missing. Give it a value."
        case "extra_forbidden":
            return "is not a field of this request. Remove it."
        case "string_type" | "int_type" | "float_type" | "bool_type" | "int_from_float":
            wanted = {"string": "a text", "int": "a whole number", "float": "a number", "bool": "true or false"}
            return (
                f"is {quoted(value)}, {type(value).__name__};"
                f" it must be {wanted[detail['type'].split('_')[0]]}. Correct the value."
            )
        case "string_unicode":
            return _unpaired(value)
        case "problem" | "unwritable" | "http_url" | "path_segment":
            return detail["msg"]
        case _:
            return f"is {quoted(value)}: {detail['msg']}. Correct the value."


def _unpaired(text: str) -> str:
    position = next(i for i, c in enumerate(text, 1) if "\ud800" <= c <= "\udfff")
    code = f"{ord(text[position - 1]):04X}"
    return f"has the character U+{code} at position {position}, half of a pair, which cannot be sent. Delete it."
