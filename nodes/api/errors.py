"""The errors of this pack: one class for each thing that a user can do about an error.

    KlingError
    |-- GraphError         change the graph: a value, a model, a wire, a prompt
    |-- SetupError         fix the installation or the account: key, permissions, address, disk, limits
    |-- BalanceError       top up the account
    |-- BusyError          wait: too many requests or tasks at once
    |-- LimitError         wait, or raise your spending limit
    |-- UnavailableError   try again later: asking cost nothing
    |-- OutcomeUnknown     a task may exist: look it up before paying again
    |-- TaskNotFound       the gateway does not know this id
    `-- TaskFailed         the task was made and then failed

Every message says what happened and what to do next. The ids that help to find a task again are attributes, and are
listed at the end of the text.

Sources: Kling's table of service codes; the source code of the New-API relays for theirs.
"""

from __future__ import annotations

from .printable import printable


class KlingError(Exception):
    """The base class of all errors that this pack raises on purpose.

    Attributes:
        code: the service's own code: an int from Kling (1303), a str from a gateway (``model_not_found``).
        http_status: the status of the answer, None if there was no answer.
        task_id, external_task_id, request_id: what is known about the task and the call, None if unknown.
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
        # ComfyUI shows the module of an error class, and the module name of a pack is its path on disk.
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
        facts = ", ".join(f"{name} {printable(str(value))}" for name, value in known.items() if value not in (None, ""))
        message = printable(self.message, keep="\n")
        return f"{message} ({facts})" if facts else message


KlingError.__module__ = "kling"


class GraphError(KlingError):
    """The request is wrong as it is. Nothing was paid; change the graph."""


class SetupError(KlingError):
    """Something outside the graph is missing, wrong or not allowed: key, permissions, address, disk, a limit."""


class BalanceError(KlingError):
    """The account or the key has no money or quota left."""


class BusyError(KlingError):
    """The account has reached its limit of running tasks or of requests."""


class LimitError(KlingError):
    """The request would exceed what the owner of this installation allows to be spent. Nothing was sent."""


class UnavailableError(KlingError):
    """The service cannot be reached, is closed, or gives no usable answer. Asking cost nothing."""


class OutcomeUnknown(KlingError):
    """The request was sent, its answer was lost, and the gateway could not say whether a task exists."""


class TaskNotFound(KlingError):
    """The gateway knows no task with this id.

    Attributes:
        proven: True if Kling itself says so, for task ids and external ids alike. A relay that knows only its own
            ids gives the same answer for a task that exists, so that answer proves nothing.
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
    """The task was made, and Kling ended it without a video. Kling does not charge for it."""
