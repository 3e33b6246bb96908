"""What can go wrong, one class for each thing that a user can do about it.

    KlingError
    |-- GraphError         change the graph: a value, a model, a wire, a prompt
    |-- SetupError         mend the installation or the account: key, permissions, address, disk, limits
    |-- BalanceError       top up the account
    |-- BusyError          wait: too many requests or tasks at once
    |-- UnavailableError   ask again later: asking has bought nothing
    |-- OutcomeUnknown     a task may exist: look before paying again
    |-- TaskNotFound       the gateway does not know this id
    `-- TaskFailed         the task was made and then failed

Every message says what happened and what to do next. Ids that a user may need to find a task again are
kept as attributes and stand at the end of the text.

Sources: Kling's table of service codes; the source of the New-API relays for theirs.
"""

from __future__ import annotations

from typing import NamedTuple


class KlingError(Exception):
    """The base of all errors that this pack raises on purpose.

    Attributes:
        code: the service's own code, an int for Kling (1303) and a str for a gateway (``model_not_found``).
        http_status: the status of the answer, None when there was none.
        task_id, external_task_id, request_id: what is known of the task and of the call, else None.
    """

    def __init__(
        self,
        message: str,
        *,
        code: int | str | None = None,
        http_status: int | None = None,
        task_id: str | None = None,
        external_task_id: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.http_status = http_status
        self.task_id = task_id
        self.external_task_id = external_task_id
        self.request_id = request_id

    def __init_subclass__(cls) -> None:
        # ComfyUI shows a class together with its module, and a pack's module name is its path on disk.
        cls.__module__ = "kling"

    @property
    def message(self) -> str:
        """What happened and what to do, without the ids."""
        return str(self.args[0])

    def __str__(self) -> str:
        known = {
            "code": self.code,
            "HTTP": self.http_status,
            "task_id": self.task_id,
            "external_task_id": self.external_task_id,
            "request_id": self.request_id,
        }
        facts = ", ".join(f"{name} {value}" for name, value in known.items() if value not in (None, ""))
        return f"{self.message} ({facts})" if facts else self.message


KlingError.__module__ = "kling"


class GraphError(KlingError):
    """The request cannot be right as it is. Nothing was bought; change the graph."""


class SetupError(KlingError):
    """Something around the graph is missing, wrong or not allowed: key, permissions, address, disk, a limit."""


class BalanceError(KlingError):
    """The account or the key has no money or quota left."""


class BusyError(KlingError):
    """The account runs as many tasks, or sends as many requests, as it may."""


class UnavailableError(KlingError):
    """The service cannot be reached, is closed, or gives nothing usable. Nothing was bought by asking."""


class OutcomeUnknown(KlingError):
    """The request left, its answer did not arrive, and the gateway could not say whether a task exists."""


class TaskNotFound(KlingError):
    """The gateway knows no task under this id.

    Attributes:
        proven: True when Kling itself says so of task ids and external ids alike. A relay that only knows
            its own ids says the same of a task that exists, which proves nothing.
    """

    def __init__(
        self,
        message: str,
        *,
        proven: bool = False,
        code: int | str | None = None,
        http_status: int | None = None,
        task_id: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, code=code, http_status=http_status, task_id=task_id, request_id=request_id)
        self.proven = proven


class TaskFailed(KlingError):
    """The task was made and Kling ended it without a video. Kling does not charge for such a task."""


class Code(NamedTuple):
    """One service code: the error it becomes, what it means, and what the user can do."""

    error: type[KlingError]
    meaning: str
    advice: str


_CHECK_KEY = "Check KLING_API_KEY, or the key in Settings > Kling."
_TOP_UP = "Top up the account or choose a cheaper model or mode, then run again."
_SUPPORT = "Ask the gateway's support."
_REWORD = "Change the prompt, then run again."

CODES: dict[int, Code] = {
    1000: Code(SetupError, "authentication failed", _CHECK_KEY),
    1001: Code(SetupError, "the key did not arrive", _CHECK_KEY),
    1002: Code(SetupError, "the key is not valid", _CHECK_KEY),
    1003: Code(SetupError, "the key is not valid yet", "Check the clock of this computer and the key."),
    1004: Code(SetupError, "the key has expired", "Make a new key with the gateway and set it."),
    1100: Code(SetupError, "the account is in an abnormal state", _SUPPORT),
    1101: Code(BalanceError, "the account is in arrears", _TOP_UP),
    1102: Code(BalanceError, "the resource pack is used up or has expired", _TOP_UP),
    1103: Code(SetupError, "the key may not use this model or endpoint", _SUPPORT),
    1200: Code(GraphError, "a parameter is invalid", "Change what the message names, then run again."),
    1201: Code(GraphError, "a parameter is invalid", "Change what the message names, then run again."),
    1202: Code(SetupError, "the gateway does not take this HTTP method", "Check KLING_BASE_URL."),
    1203: Code(GraphError, "the resource does not exist", "Choose another model_name."),
    1300: Code(GraphError, "the platform's policy refuses this", _REWORD),
    1301: Code(GraphError, "the content-safety check refuses the prompt", _REWORD),
    1302: Code(BusyError, "too many requests in a short time", "Run again in a minute."),
    1303: Code(BusyError, "all task slots of the account are taken", "Run again when a task has ended."),
    1304: Code(SetupError, "this IP address is not on the account's allow-list", _SUPPORT),
    5000: Code(UnavailableError, "an internal error at Kling", "Run again later."),
    5001: Code(UnavailableError, "Kling is closed for maintenance", "Run again later."),
    5002: Code(UnavailableError, "Kling timed out on a backlog of work", "Run again later."),
}

WAIT_FOR = frozenset({1302, 1303})
"""The two codes after which the same request may simply be sent again."""

MAINTENANCE = 5001
"""Refused before anything was made; worth a few more tries."""

MAY_HAVE_WORKED = frozenset({5000, 5002})
"""Codes that Kling gives while it does not know itself whether the task was made."""

GATEWAY_CODES: dict[str, tuple[type[KlingError], str]] = {
    "insufficient_user_quota": (BalanceError, "Top up the gateway account, then run again."),
    "pre_consume_token_quota_failed": (BalanceError, "Raise the quota of the key or top up, then run again."),
    "model_not_found": (GraphError, "The gateway does not offer this model to your key. Choose another model_name."),
    "provider_not_found": (GraphError, "The gateway does not offer this combination. Choose another model or mode."),
    "access_denied": (SetupError, "Ask the gateway's support, or use another key."),
    "invalid_request": (GraphError, "Change what the message names, then run again."),
    "task_failed": (GraphError, "Change what the message names, then run again."),
    "get_channel_failed": (UnavailableError, "Run again later."),
    "build_request_failed": (GraphError, "Change the request, then run again."),
}
"""Codes that a relay gives before it asks Kling, with the way out: no task was made."""

HTTP_STATUSES: dict[int, tuple[type[KlingError], str]] = {
    400: (GraphError, "Change what the message names, then run again."),
    401: (SetupError, "Check KLING_API_KEY, or the key in Settings > Kling: it may be mistyped, expired or used up."),
    402: (BalanceError, "Top up the gateway account, then run again."),
    403: (SetupError, "The key may not do this: ask the gateway's support, or use another key."),
    404: (SetupError, "Check KLING_BASE_URL."),
    413: (GraphError, "Make the request shorter."),
    422: (GraphError, "Change what the message names, then run again."),
    429: (UnavailableError, "The gateway is busy, or the account is out of quota. Run again in a few minutes."),
}
"""The same for answers that have no code of their own, by HTTP status."""

AFTER_SENDING = frozenset({"do_request_failed", "unmarshal_response_failed", "read_response_body_failed"})
"""A relay's codes for what goes wrong once it has begun to pass the request on."""
