"""Errors, grouped by who must act on them."""


class RerankerError(Exception):
    """Base class of the errors that a user sees. The message names the problem, its location and the fix."""


class ConfigError(RerankerError):
    """The job config cannot work. Raised before any actor starts."""


class InputError(RerankerError):
    """The input as a whole cannot be read, for example because a column is missing. A bad row is a `failed` row."""


class RowError(RerankerError):
    """One input row cannot be reranked. It becomes a `failed` row of the output; the rest of the run continues."""


class OutputError(RerankerError):
    """The output location cannot be written: a live run holds it, or a run with other settings wrote it."""


class StoreUnavailableError(OutputError):
    """The output's store does not answer, or throttles requests. The run can be resumed."""


class OutputHeldError(OutputError):
    """A live run holds the output's lease."""


class OutputConflictError(OutputError):
    """The output holds the rows of a run with other settings, or files that no run wrote."""


class EngineStartError(RerankerError):
    """A replica's engine does not start: unreadable model, out of memory, no GPU. A retry rarely helps."""


class RunError(RerankerError):
    """The run failed before every query was done. The same command resumes it."""


class TransientRunError(RunError):
    """The run failed for a transient reason: an unavailable store, a lost node, a full disk, an error in Ray."""


class NoFreeNodeError(RunError):
    """No node has enough free resources for a replica, and the wait timed out. The same command resumes the run."""


class MaxCostError(RunError):
    """The cost of the run has reached `max_cost`. The same command with a higher limit resumes it."""


class ReplicaDeathsError(RerankerError):
    """A replica's process died several times without answering a window in between. Its node may be at fault."""


class RequestError(RerankerError):
    """One request to the engine failed. The engine is alive and the window can be retried."""


class EngineDeadError(RerankerError):
    """The engine cannot answer any request. This is never the fault of one row: the replica must be replaced."""


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first EngineDeadError of a task group if there is one, otherwise its first error."""
    fatal = group.subgroup(EngineDeadError) or group
    error: BaseException = fatal
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
