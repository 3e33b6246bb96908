"""The rules between fields: what a model can do, and what a storyboard must be.

Sources: the gateway's page for multi_shot, shot_type and multi_prompt; Kling's documents and refusal texts for
camera moves and for what depends on the model (capabilities.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic_core import InitErrorDetails, PydanticCustomError

from .capabilities import CAMERA_DURATION, CAMERA_MODE, DURATIONS, MODELS, Model, with_ability
from .wording import is_blank, quoted

Location = tuple[str | int, ...]


class Problem(NamedTuple):
    """Where in the body, and what is wrong there."""

    loc: Location
    text: str


Rule = Callable[[Mapping[str, Any]], Iterator[Problem]]

SHOTS_MAX = 6
AXES = ("horizontal", "vertical", "pan", "tilt", "roll", "zoom")

_SECONDS = re.compile(r"[1-9][0-9]?")


def broken(body: Mapping[str, Any], unsound: Collection[Location]) -> list[InitErrorDetails]:
    """Every broken rule of ``body`` as pydantic line errors.

    Args:
        body: the raw body, field names to JSON values.
        unsound: the locations that have a problem already. A rule is skipped if a whole field that it needs is one of
            them. A problem is dropped if its own location is in one of them.
    """
    roots = {place[0] for place in unsound if len(place) == 1}
    found = [problem for fields, rule in _RULES if not roots & fields for problem in rule(body)]
    return [
        {
            "type": PydanticCustomError("problem", "{text}", {"text": problem.text}),
            "loc": problem.loc,
            "input": body.get(str(problem.loc[0])),
        }
        for problem in found
        if not any(problem.loc[: len(place)] == place for place in unsound)
    ]


def _shown(duration: object) -> str:
    """A duration as the user entered it: text in the body, but a number on the node, so without quotes."""
    return duration if isinstance(duration, str) and re.fullmatch(r"[0-9.-]{1,12}", duration) else quoted(duration)


def _seconds(text: object) -> int | None:
    return int(text) if isinstance(text, str) and _SECONDS.fullmatch(text) else None


def _prompt(body: Mapping[str, Any]) -> Iterator[Problem]:
    prompt = body.get("prompt") or ""
    if body.get("multi_shot"):
        if prompt:
            yield Problem(("prompt",), "is not used when multi_shot is true. Leave it out.")
    elif is_blank(prompt):
        yield Problem(("prompt",), "is blank. Write what the video shows, or connect a KlingMultiShot.")


def _storyboard(body: Mapping[str, Any]) -> Iterator[Problem]:
    if not body.get("multi_shot"):
        for name in ("shot_type", "multi_prompt"):
            if body.get(name) is not None:
                yield Problem(
                    (name,), "is only allowed when multi_shot is true. Leave it out, or set multi_shot to true."
                )
        return
    if body.get("shot_type") is None:
        yield Problem(("shot_type",), "is missing; multi_shot needs 'customize'. Add it.")
    if body.get("multi_prompt") is None:
        yield Problem(
            ("multi_prompt",), f"is missing; multi_shot needs 1 to {SHOTS_MAX} shots. Connect at least shot_1."
        )
        return
    shots = _shots(body)
    # Pydantic would count only the valid shots and would not mention the others.
    if not 1 <= len(shots) <= SHOTS_MAX:
        way_out = "Connect at least shot_1" if not shots else f"Disconnect {len(shots) - SHOTS_MAX}"
        yield Problem(("multi_prompt",), f"has {len(shots)} shots; 1 to {SHOTS_MAX} are allowed. {way_out}.")
    for position, shot in enumerate(shots):
        index, prompt, duration = (_part(shot, name) for name in ("index", "prompt", "duration"))
        if index != position + 1:
            yield Problem(
                ("multi_prompt", position, "index"), f"is {index}; it must be {position + 1}. Renumber the shots."
            )
        if isinstance(prompt, str) and is_blank(prompt):
            yield Problem(("multi_prompt", position, "prompt"), "is blank. Write what happens in this shot.")
        if _seconds(duration) is None:
            yield Problem(
                ("multi_prompt", position, "duration"),
                f"is {_shown(duration)} s; whole seconds from 1 to {DURATIONS[-1]} are allowed. Correct the value.",
            )


def _shots(body: Mapping[str, Any]) -> Sequence[object]:
    shots = body.get("multi_prompt")
    return shots if isinstance(shots, (list, tuple)) else ()


def _part(whole: object, name: str, default: object = None) -> Any:
    """A field of a model or a mapping; ``default`` for anything else, because ``whole`` may not be validated yet."""
    return whole.get(name, default) if isinstance(whole, Mapping) else getattr(whole, name, default)


def _facts(body: Mapping[str, Any]) -> Model:
    """What the model can do. A model that nothing is known about may do everything; the gateway decides."""
    return MODELS.get(body["model_name"], _ANYTHING)


_ANYTHING = Model(tuple(DURATIONS), sound=True, multi_shot=True, camera_control="disputed", cfg_scale=True)


def _multi_shot_model(body: Mapping[str, Any]) -> Iterator[Problem]:
    if body.get("multi_shot") and not _facts(body).multi_shot:
        able = ", ".join(with_ability("multi_shot"))
        yield Problem(
            ("multi_shot",),
            f"needs {able}; with {body['model_name']} the gateway may drop the shots and still bill a video."
            f" Set model_name to {able}, or disconnect the multi-shot.",
        )


def _length(body: Mapping[str, Any]) -> Iterator[Problem]:
    duration = body["duration"]
    allowed = _facts(body).durations
    if _seconds(duration) not in allowed:
        choice = f"{allowed[0]} to {allowed[-1]}" if len(allowed) > 2 else " or ".join(map(str, allowed))
        able = " or ".join(name for name, model in MODELS.items() if _seconds(duration) in model.durations)
        way_out = f"Change it, or set model_name to {able}." if able else "Change it."
        yield Problem(
            ("duration",),
            f"is {_shown(duration)} s; {body['model_name']} makes {choice} s, in whole seconds."
            f" {'Change the shots.' if body.get('multi_shot') else way_out}",
        )


def _sum(body: Mapping[str, Any]) -> Iterator[Problem]:
    lengths = [_seconds(_part(shot, "duration")) for shot in _shots(body)]
    known = [length for length in lengths if length is not None]
    if body.get("multi_shot") and known and len(known) == len(lengths):
        total = sum(known)
        if _seconds(body["duration"]) != total:
            yield Problem(
                ("duration",),
                f"is {_shown(body['duration'])} s, but the shots add up to {total} s. Make them equal.",
            )


def _sound(body: Mapping[str, Any]) -> Iterator[Problem]:
    if body.get("sound") == "on" and not _facts(body).sound:
        able = ", ".join(with_ability("sound"))
        yield Problem(
            ("sound",), f"is on; {body['model_name']} cannot make sound. Set it to off, or set model_name to {able}."
        )


def _camera_model(body: Mapping[str, Any]) -> Iterator[Problem]:
    if body.get("camera_control") is None:
        return
    model, camera_control = body["model_name"], _facts(body).camera_control
    if camera_control == "no":
        yield Problem(
            ("camera_control",),
            f"is not possible with {model}. Disconnect it, or set model_name to kling-v1 (std, 5 s).",
        )
    if camera_control == "yes" and (body["mode"], body["duration"]) != (
        CAMERA_MODE,
        str(CAMERA_DURATION),
    ):
        yield Problem(
            ("camera_control",),
            f"needs mode {CAMERA_MODE} and {CAMERA_DURATION} s with {model}, not {body['mode']} and"
            f" {_shown(body['duration'])} s. Change them, or disconnect it.",
        )


def _camera_move(body: Mapping[str, Any]) -> Iterator[Problem]:
    camera = body.get("camera_control")
    if camera is None or _part(camera, "type", "simple") != "simple":
        return
    config = _part(camera, "config")
    axes = {axis: _part(config, axis, 0) for axis in AXES}
    if not all(isinstance(value, (int, float)) for value in axes.values()):
        return
    moving = {axis: value for axis, value in axes.items() if value != 0}
    if len(moving) != 1:
        there = ", ".join(f"{axis} {quoted(value)}" for axis, value in moving.items()) or "all six are 0"
        yield Problem(
            ("camera_control", "config"),
            f"needs exactly one axis that is not 0 for type simple; here {there}."
            " Set exactly one axis, or choose a ready-made move as type.",
        )


_RULES: list[tuple[set[str], Rule]] = [
    ({"multi_shot", "prompt"}, _prompt),
    ({"multi_shot", "shot_type", "multi_prompt"}, _storyboard),
    ({"multi_shot", "model_name"}, _multi_shot_model),
    ({"model_name", "duration"}, _length),
    ({"multi_shot", "multi_prompt", "duration"}, _sum),
    ({"model_name", "sound"}, _sound),
    ({"model_name", "mode", "duration", "camera_control"}, _camera_model),
    ({"camera_control"}, _camera_move),
]
"""Each rule with the fields that it needs. The rules themselves check the values inside shots and axes."""
