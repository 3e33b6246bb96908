"""What the codes of Kling and of its relays mean, and what a user can do about each."""

from __future__ import annotations

from typing import NamedTuple

from ..errors import BalanceError, BusyError, GraphError, KlingError, SetupError, UnavailableError


class Code(NamedTuple):
    """One service code: the error that it becomes, what it means, and what the user can do."""

    error: type[KlingError]
    meaning: str
    advice: str


_CHECK_KEY = "Check KLING_API_KEY, or the key under Settings > Kling."
_TOP_UP = "Top up the account, or choose a cheaper model or mode, then run again."
_SUPPORT = "Contact the gateway's support."
_REWORD = "Change the prompt, then run again."

CODES: dict[int, Code] = {
    1000: Code(SetupError, "authentication failed", _CHECK_KEY),
    1001: Code(SetupError, "the request arrived without a key", _CHECK_KEY),
    1002: Code(SetupError, "the key is not valid", _CHECK_KEY),
    1003: Code(SetupError, "the key is not valid yet", "Check this computer's clock and the key."),
    1004: Code(SetupError, "the key has expired", "Create a new key on the gateway's website and set it."),
    1100: Code(SetupError, "there is a problem with the account", _SUPPORT),
    1101: Code(BalanceError, "the account is in arrears", _TOP_UP),
    1102: Code(BalanceError, "the resource pack is used up or has expired", _TOP_UP),
    1103: Code(SetupError, "the key may not use this model or endpoint", _SUPPORT),
    1200: Code(GraphError, "a parameter is invalid", "Change what the message names, then run again."),
    1201: Code(GraphError, "a parameter is invalid", "Change what the message names, then run again."),
    1202: Code(SetupError, "the gateway does not accept this HTTP method", "Check KLING_BASE_URL."),
    1203: Code(GraphError, "the resource does not exist", "Choose another model_name."),
    1300: Code(GraphError, "the platform's policy does not allow this", _REWORD),
    1301: Code(GraphError, "the prompt did not pass the content check", _REWORD),
    1302: Code(BusyError, "too many requests in a short time", "Run again in a minute."),
    1303: Code(BusyError, "all task slots of the account are taken", "Run again when one of the tasks has ended."),
    1304: Code(SetupError, "this IP address is not on the account's allow-list", _SUPPORT),
    5000: Code(UnavailableError, "an internal error at Kling", "Run again later."),
    5001: Code(UnavailableError, "Kling is closed for maintenance", "Run again later."),
    5002: Code(UnavailableError, "Kling timed out because of a backlog", "Run again later."),
}

WAIT_FOR = frozenset({1302, 1303})
"""The codes after which the same request may be sent again: nothing was made."""

MAINTENANCE = 5001
"""The code for maintenance: nothing was made, and a few more tries are allowed."""

MAY_HAVE_WORKED = frozenset({5000, 5002})
"""Kling's codes for failures of its own, after which the task may have been made."""

GATEWAY_CODES: dict[str, tuple[type[KlingError], str]] = {
    "insufficient_user_quota": (BalanceError, "Top up the gateway account, then run again."),
    "pre_consume_token_quota_failed": (BalanceError, "Raise the quota of the key or top up, then run again."),
    "model_not_found": (GraphError, "The gateway does not offer this model to your key. Choose another model_name."),
    "provider_not_found": (GraphError, "The gateway does not offer this combination. Choose another model or mode."),
    "access_denied": (SetupError, "Contact the gateway's support, or use another key."),
    "invalid_request": (GraphError, "Change what the message names, then run again."),
    "task_failed": (GraphError, "Change what the message names, then run again."),
    "get_channel_failed": (UnavailableError, "Run again later."),
    "build_request_failed": (GraphError, "Change the request, then run again."),
}
"""A relay's codes for errors that happen before it asks Kling, each with the way out: no task was made."""

HTTP_STATUSES: dict[int, tuple[type[KlingError], str]] = {
    400: (GraphError, "Change what the message names, then run again."),
    401: (SetupError, "Check KLING_API_KEY, or the key under Settings > Kling: it may be wrong, expired or used up."),
    402: (BalanceError, "Top up the gateway account, then run again."),
    403: (SetupError, "The key is not allowed to do this. Contact the gateway's support, or use another key."),
    404: (SetupError, "Check KLING_BASE_URL."),
    413: (GraphError, "Make the request shorter."),
    422: (GraphError, "Change what the message names, then run again."),
    429: (UnavailableError, "The gateway is busy, or the account is out of quota. Run again in a few minutes."),
}
"""The error and the way out for answers without a code of their own, by HTTP status."""

AFTER_SENDING = frozenset({"do_request_failed", "unmarshal_response_failed", "read_response_body_failed"})
"""A relay's codes for errors after it has begun to pass the request on: a task may have been made."""
