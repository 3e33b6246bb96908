"""The error tree and its tables: one class for each thing to do, every code known, every message with its ids."""

from __future__ import annotations

import re
import sys
import traceback
from collections import defaultdict
from types import ModuleType

import pytest

from nodes.api import errors
from nodes.api.errors import KlingError, TaskNotFound
from nodes.api.gateway import codes
from nodes.api.gateway.codes import CODES, GATEWAY_CODES, HTTP_STATUSES

TREE = {
    "GraphError": errors.GraphError,
    "SetupError": errors.SetupError,
    "BalanceError": errors.BalanceError,
    "BusyError": errors.BusyError,
    "LimitError": errors.LimitError,
    "UnavailableError": errors.UnavailableError,
    "OutcomeUnknown": errors.OutcomeUnknown,
    "TaskNotFound": errors.TaskNotFound,
    "TaskFailed": errors.TaskFailed,
}

# Kling's own table, read in three mirrors of its documents: what each code means to its reader.
OFFICIAL = {
    1000: "SetupError",
    1001: "SetupError",
    1002: "SetupError",
    1003: "SetupError",
    1004: "SetupError",
    1100: "SetupError",
    1101: "BalanceError",
    1102: "BalanceError",
    1103: "SetupError",
    1200: "GraphError",
    1201: "GraphError",
    1202: "SetupError",
    1203: "GraphError",
    1300: "GraphError",
    1301: "GraphError",
    1302: "BusyError",
    1303: "BusyError",
    1304: "SetupError",
    5000: "UnavailableError",
    5001: "UnavailableError",
    5002: "UnavailableError",
}


def test_the_tree_holds_these_classes_and_no_others():
    assert {error.__name__: error for error in KlingError.__subclasses__()} == TREE
    assert KlingError.__bases__ == (Exception,)


def test_the_tree_is_drawn_at_the_top_of_the_module():
    drawn = re.findall(r"[|`]-- (\w+) +(\S.*)", errors.__doc__ or "")
    assert [name for name, _ in drawn] == list(TREE)
    assert len({advice for _, advice in drawn}) == len(TREE)


def test_every_class_says_what_it_means_in_words_of_its_own():
    texts = [(error.__doc__ or "").strip().splitlines()[0] for error in (KlingError, *TREE.values())]
    assert all(len(text) > 20 for text in texts)
    assert len(set(texts)) == len(texts)


def test_every_official_code_is_known_and_becomes_the_right_class():
    assert {code: entry.error.__name__ for code, entry in CODES.items()} == OFFICIAL


def test_only_two_codes_are_waited_for_and_two_leave_it_open_whether_a_task_was_made():
    assert set(codes.WAIT_FOR) == {1302, 1303}
    assert set(codes.MAY_HAVE_WORKED) == {5000, 5002}
    assert codes.MAINTENANCE == 5001


@pytest.mark.parametrize("code", CODES)
def test_every_code_has_a_meaning_and_a_way_out(code: int):
    entry = CODES[code]
    assert entry.meaning[0] != entry.meaning[0].upper() or entry.meaning.startswith("Kling")
    assert not entry.meaning.endswith(".")
    assert entry.advice.endswith(".")
    assert re.match(r"(Check|Create|Contact|Top up|Change|Choose|Run) ", entry.advice)


def test_codes_that_call_for_different_things_give_different_advice():
    classes = defaultdict(set)
    for entry in CODES.values():
        classes[entry.advice].add(entry.error)
    assert [advice for advice, errors in classes.items() if len(errors) > 1] == []


@pytest.mark.parametrize("entry", [*GATEWAY_CODES.values(), *HTTP_STATUSES.values()], ids=str)
def test_every_code_of_a_relay_and_every_status_has_a_way_out(entry: tuple[type[KlingError], str]):
    error, advice = entry
    assert error in TREE.values()
    assert advice.endswith(".") and len(advice) > 10


def test_no_code_stands_in_two_tables_of_relays():
    assert not set(GATEWAY_CODES) & set(codes.AFTER_SENDING)


# What a user sees


def test_the_text_ends_with_everything_needed_to_find_the_task_again():
    error = errors.UnavailableError(
        "It broke. Run again.",
        code=1303,
        http_status=429,
        task_id="831922345719271433",
        external_task_id="boat-1",
        request_id="603e2a28-fb89",
    )
    assert str(error) == (
        "It broke. Run again."
        " (code 1303, HTTP 429, task_id 831922345719271433, external_task_id boat-1, request_id 603e2a28-fb89)"
    )
    assert error.message == "It broke. Run again."


def test_what_is_not_known_is_left_out():
    assert str(errors.GraphError("No.")) == "No."
    assert str(errors.GraphError("No.", code="", http_status=400, task_id=None)) == "No. (HTTP 400)"


def test_ids_may_be_added_later():
    error = errors.OutcomeUnknown("Lost.")
    error.external_task_id = "boat-1"
    assert str(error) == "Lost. (external_task_id boat-1)"


@pytest.mark.parametrize("error", [KlingError, *TREE.values()])
def test_comfyui_shows_no_path_on_disk_with_the_class(error: type[KlingError], pack: ModuleType):
    loaded = sys.modules[f"{pack.__name__}.nodes.api.errors"]
    for one in (error, getattr(loaded, error.__name__)):
        assert one.__module__ == "kling"
        shown = traceback.format_exception_only(one, one("It broke."))
        assert shown == [f"kling.{one.__name__}: It broke.\n"]


def test_not_found_says_whether_kling_itself_said_so():
    assert TaskNotFound("None.").proven is False
    assert TaskNotFound("None.", proven=True, code=1201, task_id="1").proven is True


def test_errors_can_be_caught_together_and_keep_their_fields():
    with pytest.raises(KlingError) as caught:
        raise errors.BalanceError("Top up.", code=1102)
    assert caught.value.code == 1102
    assert caught.value.args == ("Top up.",)
