"""How the sandbox judges the body of a create.

The rules come from the gateway's table and from what is known about Kling. They share nothing with the pack's own
request model, so that a mistake there is not repeated here. In this order, they find:

* a *misfit*: a JSON type that is not the table's, or a field that the table does not have. Refused;
* a broken rule of the table. Refused;
* a broken rule that only Kling has. Refused, with a warning, because the table does not mention it;
* a *warning*: accepted, but Kling ignores some of it, or a plain New-API relay would drop or refuse it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

MODELS = (
    "kling-v1",
    "kling-v1-6",
    "kling-v2-master",
    "kling-v2-1-master",
    "kling-v2-5-turbo",
    "kling-v3",
)
MODES = ("std", "pro")
SOUNDS = ("on", "off")
ASPECT_RATIOS = ("16:9", "9:16", "1:1")
AXES = ("horizontal", "vertical", "pan", "tilt", "roll", "zoom")
PRESETS = ("down_back", "forward_up", "right_turn_forward", "left_turn_forward")

SHORT_DURATIONS = ("5", "10")
V3_DURATIONS = tuple(str(seconds) for seconds in range(3, 16))
HEARS_CFG_SCALE = ("kling-v1", "kling-v1-6")
ONE_TIER = ("kling-v2-master", "kling-v2-1-master")

LONGEST_PROMPT = 2500
LONGEST_SHOT_PROMPT = 512
MOST_SHOTS = 6

UNREADABLE = "Failed to resolve the request body"
CAMERA_REFUSED = "camera_control is only supported in std mode with 5s duration and kling-v1"


def _is_text(value: object) -> bool:
    r"""Also false for half of a surrogate pair, which JSON can write (`\ud83d`) and UTF-8 cannot."""
    if not isinstance(value, str):
        return False
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    # isfinite() is for floats only, because it raises for an int that is too large for a float.
    return _is_integer(value) or (isinstance(value, float) and math.isfinite(value))


FITS: Mapping[str, Callable[[object], bool]] = {
    "string": _is_text,
    "boolean": lambda value: isinstance(value, bool),
    "integer": _is_integer,
    "number": _is_number,
}

# The table's types. A nested mapping is an object, a one-element list an array of that element.
SHAPE: Mapping[str, Any] = {
    "model_name": "string",
    "prompt": "string",
    "multi_shot": "boolean",
    "shot_type": "string",
    "multi_prompt": [{"index": "integer", "prompt": "string", "duration": "string"}],
    "negative_prompt": "string",
    "cfg_scale": "number",
    "mode": "string",
    "sound": "string",
    "camera_control": {"type": "string", "config": dict.fromkeys(AXES, "number")},
    "aspect_ratio": "string",
    "duration": "string",
    "watermark_info": {"enabled": "boolean"},
    "callback_url": "string",
    "external_task_id": "string",
}
# The table also marks multi_shot as required, but its own example leaves it out. That must mean false.
REQUIRED = ("model_name", "mode", "duration")

# Units in Kling's price list: for a clip of (5, 10) seconds, but with kling-v3 for one second (silent, with sound).
UNITS: Mapping[tuple[str, str], tuple[float, float]] = {
    ("kling-v1", "std"): (1, 2),
    ("kling-v1", "pro"): (3.5, 7),
    ("kling-v1-6", "std"): (2, 4),
    ("kling-v1-6", "pro"): (3.5, 7),
    ("kling-v2-master", "std"): (10, 20),
    ("kling-v2-master", "pro"): (10, 20),
    ("kling-v2-1-master", "std"): (10, 20),
    ("kling-v2-1-master", "pro"): (10, 20),
    ("kling-v2-5-turbo", "std"): (1.5, 3),
    ("kling-v2-5-turbo", "pro"): (2.5, 5),
    ("kling-v3", "std"): (0.6, 0.9),
    ("kling-v3", "pro"): (0.8, 1.2),
}


@dataclass(frozen=True)
class Verdict:
    """The verdict on one body: `refusal` is Kling's (code, message), or None if the body is accepted."""

    refusal: tuple[int, str] | None
    warnings: tuple[str, ...] = ()


def read(raw: bytes) -> Any:
    """Read strict JSON: UTF-8, no NaN, no Infinity. Raises ValueError for anything else."""
    try:
        return json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
    except RecursionError as deep:
        raise ValueError("nested too deeply") from deep


def judge(body: object) -> Verdict:
    """Judge a parsed body, apart from what depends on other tasks: ids in use, free slots."""
    if not isinstance(body, dict):
        return Verdict((1200, UNREADABLE))
    misfit = _misfit(body, SHAPE, "")
    if misfit:
        return Verdict((1201, f"{UNREADABLE}: {misfit}"))
    broken = next(_table_rules(body), None)
    if broken is not None:
        return Verdict((1201, broken))
    broken = next(_kling_rules(body), None)
    if broken is not None:
        return Verdict((1201, broken), (f"passes the gateway's table, but Kling refuses it: {broken}",))
    return Verdict(None, tuple(_warnings(body)))


def units(body: Mapping[str, Any]) -> str:
    """What an accepted body costs at Kling's list price, as the decimal text that a finished task shows."""
    short, long = UNITS[body["model_name"], body["mode"]]
    if body["model_name"] == "kling-v3":
        price = int(body["duration"]) * (long if body.get("sound") == "on" else short)
    else:
        price = long if body["duration"] == "10" else short
    return f"{price:.2f}".rstrip("0").rstrip(".")


def _no_constant(word: str) -> float:
    raise ValueError(f"{word} is not JSON")


def _misfit(value: object, shape: object, path: str) -> str:
    """The first place where `value` does not have the JSON type of `shape` (nor may it be null); "" if it fits."""
    if isinstance(shape, str):
        return "" if FITS[shape](value) else f"{path} must be a JSON {shape}"
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{path} must be a JSON array"
        found = (_misfit(inner, shape[0], f"{path}[{position}]") for position, inner in enumerate(value))
        return next(filter(None, found), "")
    if not (isinstance(value, dict) and isinstance(shape, Mapping)):
        return f"{path} must be a JSON object"
    for key, inner in value.items():
        name = f"{path}.{key}" if path else key
        problem = _misfit(inner, shape[key], name) if key in shape else f"unknown field {name!r}"
        if problem:
            return problem
    return ""


def _not_one_of(value: str, allowed: tuple[str, ...], name: str) -> Iterator[str]:
    if value not in allowed:
        yield f"{name} value '{value}' is invalid, supported values: {', '.join(allowed)}"


def _too_long(value: str, most: int, name: str) -> Iterator[str]:
    if len(value) > most:
        yield f"{name}: size must be between 0 and {most}"


def _table_rules(body: Mapping[str, Any]) -> Iterator[str]:
    for name in REQUIRED:
        if name not in body:
            yield f"{name}: must not be null"
    if body["model_name"] not in MODELS:
        yield "model is not supported"
    yield from _not_one_of(body["mode"], MODES, "mode")
    yield from _too_long(body.get("prompt", ""), LONGEST_PROMPT, "prompt")
    yield from _too_long(body.get("negative_prompt", ""), LONGEST_PROMPT, "negative_prompt")
    if "sound" in body:
        yield from _not_one_of(body["sound"], SOUNDS, "sound")
        if body["sound"] == "on" and body["model_name"] != "kling-v3":
            yield f"model/mode({body['model_name']}/{body['mode']}) is not supported with sound on"
    camera = body.get("camera_control")
    if camera is not None:
        for name in ("type", "config"):
            if name not in camera:
                yield f"camera_control.{name}: must not be null"
    if "watermark_info" in body and "enabled" not in body["watermark_info"]:
        yield "watermark_info.enabled: must not be null"
    if body.get("multi_shot"):
        yield from _shot_rules(body)


def _shot_rules(body: Mapping[str, Any]) -> Iterator[str]:
    yield from _not_one_of(body.get("shot_type", ""), ("customize",), "shot_type")
    shots = body.get("multi_prompt", [])
    if not 1 <= len(shots) <= MOST_SHOTS:
        yield f"multi_prompt: size must be between 1 and {MOST_SHOTS}"
    total = 0
    for position, shot in enumerate(shots):
        place = f"multi_prompt[{position}]"
        for name in ("index", "prompt", "duration"):
            if name not in shot:
                yield f"{place}.{name}: must not be null"
        yield from _too_long(shot["prompt"], LONGEST_SHOT_PROMPT, f"{place}.prompt")
        seconds = _whole_seconds(shot["duration"])
        if seconds < 1:
            yield f"{place}.duration value '{shot['duration']}' is invalid"
        total += seconds
    if str(total) != body["duration"]:
        yield f"multi_prompt: the shots' durations add up to {total}, and duration is '{body['duration']}'"


def _whole_seconds(text: str) -> int:
    """0 for anything but a plain whole number. int() alone takes "+5", " 5 ", "05", "1_0", other scripts' digits."""
    return int(text) if re.fullmatch(r"[1-9][0-9]{0,3}", text) else 0


def _kling_rules(body: Mapping[str, Any]) -> Iterator[str]:
    model, mode, duration = body["model_name"], body["mode"], body["duration"]
    yield from _camera_rules(body)
    if duration not in (V3_DURATIONS if model == "kling-v3" else SHORT_DURATIONS):
        yield f"duration value '{duration}' is invalid"
    if body.get("multi_shot"):
        if model != "kling-v3":
            yield f"model/mode({model}/{mode}) is not supported with multi_shot"
        for position, shot in enumerate(body["multi_prompt"], start=1):
            place = f"multi_prompt[{position - 1}]"
            if shot["index"] != position:
                yield f"{place}.index value '{shot['index']}' is invalid, expected {position}"
            if not shot["prompt"].strip():
                yield f"{place}.prompt: must not be blank"
    elif not body.get("prompt", "").strip():
        yield "prompt: must not be blank"
    if "aspect_ratio" in body:
        yield from _not_one_of(body["aspect_ratio"], ASPECT_RATIOS, "aspect_ratio")
    if not 0 <= body.get("cfg_scale", 0.5) <= 1:
        yield f"cfg_scale value '{body['cfg_scale']}' is invalid, must be between 0 and 1"
    if not _is_callback(body.get("callback_url", "")):
        yield f"callback_url value '{body['callback_url']}' is invalid"


def _camera_rules(body: Mapping[str, Any]) -> Iterator[str]:
    camera = body.get("camera_control")
    if camera is None:
        return
    model = body["model_name"]
    if model != "kling-v3" and (model, body["mode"], body["duration"]) != ("kling-v1", "std", "5"):
        yield CAMERA_REFUSED
    yield from _not_one_of(camera["type"], ("simple", *PRESETS), "camera_control.type")
    config = camera["config"]
    for axis, value in config.items():
        if not -10 <= value <= 10:
            yield f"camera_control.config.{axis} value '{value}' is invalid, must be between -10 and 10"
    moving = [axis for axis, value in config.items() if value]
    if camera["type"] == "simple" and len(moving) != 1:
        yield f"camera_control.config value is invalid: exactly one axis must not be 0, got {len(moving)}"
    if camera["type"] != "simple" and moving:
        yield f"camera_control.config value is invalid: type '{camera['type']}' takes no {', '.join(moving)}"


def _is_callback(url: str) -> bool:
    if not url:
        return True
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and not any(map(str.isspace, url))
    except ValueError:
        return False


def _warnings(body: Mapping[str, Any]) -> Iterator[str]:
    """What is ignored, dropped or refused somewhere between here and Kling, although the body is accepted."""
    model, prompt = body["model_name"], body.get("prompt", "")
    if "cfg_scale" in body and model not in HEARS_CFG_SCALE:
        yield f"Kling ignores cfg_scale on {model}"
    if body.get("cfg_scale") == 0:
        yield "a plain New-API relay drops cfg_scale 0, and Kling then uses 0.5"
    if model in ONE_TIER:
        yield f"{model} has one quality tier: mode changes nothing"
    if "aspect_ratio" not in body:
        yield "a plain New-API relay fills a missing aspect_ratio with 1:1, Kling with 16:9"
    if body.get("multi_shot"):
        yield "a plain New-API relay drops multi_shot and its shots, and bills a single shot"
        if prompt.strip():
            yield "Kling ignores prompt when multi_shot is true"
        else:
            yield "a plain New-API relay refuses a blank prompt (prompt is required), even with multi_shot"
    else:
        for name in ("shot_type", "multi_prompt"):
            if name in body:
                yield f"Kling ignores {name} unless multi_shot is true"
    camera = body.get("camera_control")
    if camera is not None:
        if model == "kling-v3":
            yield f"sources disagree on camera_control with kling-v3; Kling's own text: {CAMERA_REFUSED}"
        if len(camera["config"]) < len(AXES):
            yield "camera_control.config lacks axes that the gateway's own example has"
    for name in ("prompt", "negative_prompt"):
        if len(body.get(name, "").encode("utf-8")) > LONGEST_PROMPT:
            yield f"{name} is over {LONGEST_PROMPT} bytes in UTF-8, and some servers count bytes"
    if body.get("callback_url", "").startswith("http:"):
        yield "some relays refuse a callback_url that is not https"
    own_id = body.get("external_task_id", "")
    if not re.fullmatch(r"[!-~]{0,64}", own_id) or any(c in "/\\?#" for c in own_id):
        yield "some relays refuse an external_task_id of more than 64 characters, or of other than plain ASCII"
