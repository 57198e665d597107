"""Errors, grouped by who must act on them."""


class RerankerError(Exception):
    """Base of the errors that a user reads: the message names what is wrong, where, and the fix."""


class ConfigError(RerankerError):
    """The job config cannot work. Raised before any actor starts."""


class InputError(RerankerError):
    """The input as a whole cannot be read, for example for a missing column. A bad row is a `failed` row instead."""


class RowError(RerankerError):
    """One input row cannot be reranked. It becomes a `failed` row of the output; the rest of the run continues."""


class OutputError(RerankerError):
    """The output location cannot be written: a live run holds it, or a run with other settings wrote it."""


class StoreUnavailableError(OutputError):
    """The store of the output does not answer, or asks for fewer requests. A run that has begun can be resumed."""


class OutputHeldError(OutputError):
    """A live run holds the output's lease."""


class EngineStartError(RerankerError):
    """A replica's engine does not start: unreadable model, out of memory, no GPU. A retry rarely helps."""


class RunError(RerankerError):
    """The run failed before every query was done. The same command resumes it."""


class TransientRunError(RunError):
    """The run failed for a reason that may pass: a store or a node that is away, a full disk, an error of Ray."""


class NoFreeNodeError(RunError):
    """No node of the cluster had room for a replica for a long time. Once one has, the same command resumes the run."""


class ReplicaDeathsError(RerankerError):
    """The process of a replica dies again and again, whatever it works on. It may run on another node."""


class RequestError(RerankerError):
    """One request to the engine failed. The engine is alive and the window can be retried."""


class EngineDeadError(RerankerError):
    """The engine cannot answer any request. This is never the error of one row: the replica must be replaced."""


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The EngineDeadError in a task group's errors if there is one, else the first error."""
    fatal = group.subgroup(EngineDeadError) or group
    error: BaseException = fatal
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
