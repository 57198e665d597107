"""Config sections of the storage room."""

from pydantic import Field

from pipeline.settings import Section


class StorageConfig(Section):
    """How to reach S3. Credentials come from the standard AWS chain, never from this file."""

    endpoint_url: str | None = Field(None, description="Of an S3-compatible server; None for AWS.")
    region: str | None = None
    anonymous: bool = False
    path_style: bool = Field(True, description="bucket in the path, not in the host name; most servers need it.")
    connect_timeout_seconds: float = Field(10.0, gt=0)
    request_timeout_seconds: float = Field(60.0, gt=0)
    max_attempts: int = Field(10, ge=1, description="Of one request, the first included.")


class InputConfig(Section):
    """Where the candidates are, and the bounds beyond which a row is a failed row."""

    path: str = Field(description="Parquet file or folder, local or s3://, of candidates in nested or long form.")
    max_candidates: int = Field(1000, ge=1, description="A query with more is a failed row, read no further.")


class OutputConfig(Section):
    """Where the results go, and what of them is kept."""

    path: str = Field(description="Folder, local or s3://. Parquet parts at its top, control files in names with _.")
    keep_reasoning: bool = Field(False, description="Keep each window's chain of thought in the output.")
