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
