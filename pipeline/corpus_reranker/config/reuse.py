"""Config section `reuse`."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from corpus_reranker.io.settings import Url
from corpus_reranker.section import Section
from corpus_reranker.types import QueryStatus


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class ReuseConfig(Section):
    """Rows of earlier outputs that are copied instead of reranked."""

    outputs: Annotated[tuple[Url, ...], BeforeValidator(_as_list)] = Field(
        (),
        description="Output of a finished run, local or s3://, or a list of them. A query is copied from the first "
        "output that has it with the same request and the same reranker. In a scheduled run, {date-1} is the day "
        "before --date. An output that is missing, unfinished, unreadable or of another reranker causes a warning.",
    )
    statuses: tuple[QueryStatus, ...] = Field(
        ("complete",), min_length=1, description="Statuses of rows that may be copied: complete, degraded, failed."
    )
