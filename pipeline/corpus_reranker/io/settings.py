"""Config sections of input, output and storage."""

from typing import Annotated, Any, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from corpus_reranker.section import Section


def _without_credentials(url: str) -> str:
    if "://" in url and "@" in urlsplit(url).netloc:
        raise ValueError(
            "holds credentials before an @; give them by the standard AWS chain (environment, profile, role)"
        )
    return url


Url: TypeAlias = Annotated[str, AfterValidator(_without_credentials)]
"""A local path or a URL. One with a user or password in it is refused, so that none reaches a log or the output."""


class StorageConfig(Section):
    """How to reach S3. Credentials come from the standard AWS chain, never from this file."""

    endpoint_url: Url | None = Field(None, description="URL of an S3-compatible server; None for AWS.")
    region: str | None = Field(None, description="None: from the AWS environment or profile.")
    anonymous: bool = False
    path_style: bool = Field(
        True, description="At endpoint_url: bucket in the path, not in the host name; most servers need it."
    )
    connect_timeout_seconds: float = Field(10.0, gt=0)
    request_timeout_seconds: float = Field(60.0, gt=0)
    max_attempts: int = Field(10, ge=1, description="Attempts of one request, the first included.")


class RowLimits(Section):
    """The limits beyond which an input row becomes a failed row."""

    max_candidates: int = Field(1000, ge=1, description="A query with more is a failed row, read no further.")
    max_row_bytes: int = Field(16 * 2**20, ge=1, description="A query with more, texts and all, is a failed row.")


class InputConfig(RowLimits):
    """Where the candidates are, and the limits on a row."""

    path: Url = Field(description="File or folder, local or s3://, of candidates in nested or long form.")
    format: str = Field("parquet", description='Name of an input format, or "module:Class" of one outside the package.')
    options: dict[str, Any] = Field({}, description="Settings of an input format outside the package.")


class OutputConfig(Section):
    """Where the results go, and what of them is kept."""

    path: Url = Field(description="Folder, local or s3://: data files, and control files whose names start with _.")
    format: str = Field(
        "parquet", description='Name of an output format, or "module:Class" of one outside the package.'
    )
    options: dict[str, Any] = Field({}, description="Settings of an output format outside the package.")
    keep_reasoning: bool = Field(False, description="Keep each window's chain of thought in the output.")
    completion_cache: bool = Field(
        True, description="Keep each window's completion until its query is written, for a resumed run."
    )
    lease_seconds: float = Field(
        60.0, ge=2, description="A run that has not renewed its lease for so long may be taken over."
    )
