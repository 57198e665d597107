"""What can go wrong, by who has to act on it."""


class RerankerError(Exception):
    """Base of the errors a person gets to read: the message names what is wrong, where, and the fix."""


class ConfigError(RerankerError):
    """The job config cannot work. Raised before any actor starts."""


class InputError(RerankerError):
    """The input as a whole cannot be read: missing column, wrong type. One bad row is a status, not this."""


class RowError(RerankerError):
    """One input row cannot be reranked. It becomes a `failed` row of the output; nothing else stops for it."""


class OutputError(RerankerError):
    """The output location cannot be written: held by a live run, or by a run with other settings."""


class EngineStartError(RerankerError):
    """The engine of a replica does not start: model not readable, out of memory, no GPU. Trying again rarely helps."""


class RunError(RerankerError):
    """The run broke off before every query was done. The same command goes on where it stopped."""


class RequestError(RerankerError):
    """One request to the engine failed; the engine lives and the window may be asked again."""


class EngineDeadError(RerankerError):
    """The engine cannot answer any request any more. Never a row's error: the replica must end and be replaced."""


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Of a task group's errors the engine's death if it is among them, else the first: what one task would raise."""
    fatal = group.subgroup(EngineDeadError) or group
    error: BaseException = fatal
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
