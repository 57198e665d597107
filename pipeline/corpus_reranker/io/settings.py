"""Config sections of input, output and storage."""

from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from corpus_reranker.section import Section, check_known_keys


def _without_credentials(url: str) -> str:
    if "://" in url and "@" in urlsplit(url).netloc:
        raise ValueError(
            "holds credentials before an @; provide them through the standard AWS chain (environment, profile, role)"
        )
    return url


Url: TypeAlias = Annotated[str, AfterValidator(_without_credentials)]
"""A local path or a URL without user and password, so that no credentials reach a log or the output."""


INPUT_COLUMNS = ("query_id", "query", "candidates", "doc_id", "text", "title", "score", "rank")
"""Names that `input.columns` can map."""


def _check_columns(columns: dict[str, str]) -> dict[str, str]:
    check_known_keys(columns, INPUT_COLUMNS)
    return columns


def _version_text(version: object) -> object:
    """YAML reads a version that consists of digits as an integer."""
    return str(version) if isinstance(version, int) and not isinstance(version, bool) else version


class StorageConfig(Section):
    """How to reach S3. Credentials come from the standard AWS chain, never from this file."""

    endpoint_url: Url | None = Field(None, description="URL of an S3-compatible server. None: AWS.")
    region: str | None = Field(
        None,
        description="AWS region. None: the region of the AWS environment or profile. auto: the region of each bucket; "
        "with endpoint_url, the literal region `auto`, which Cloudflare R2 needs.",
    )
    anonymous: bool = Field(False, description="Send requests without credentials, for public buckets.")
    requester_pays: bool = Field(False, description="Pay for the requests to requester-pays buckets.")
    kms_key_id: str | None = Field(
        None, description="KMS key with which S3 encrypts new objects (SSE-KMS). None: the bucket's default."
    )
    path_style: bool = Field(
        True,
        description="With endpoint_url: the bucket is in the path of a URL, not in the host name. Most "
        "S3-compatible servers need this.",
    )
    connect_timeout_seconds: float = Field(10.0, gt=0, description="Timeout of a connection attempt.")
    request_timeout_seconds: float = Field(60.0, gt=0, description="Timeout of one attempt of a request.")
    max_attempts: int = Field(10, ge=1, description="Maximum number of attempts of a request, including the first.")


class RowLimits(Section):
    """What makes an input row a failed row."""

    max_candidates: int = Field(
        1000,
        ge=1,
        description="Maximum number of candidates of a query. A query with more becomes a failed row.",
    )
    max_row_bytes: int = Field(
        16 * 2**20, ge=1, description="Maximum size of a row, including all texts. A larger row becomes a failed row."
    )
    duplicate_doc_ids: Literal["keep_best", "fail"] = Field(
        "keep_best",
        description="What happens to candidates of a query with the same doc_id. keep_best: the best ranked one is "
        "kept, and the others are counted. fail: the query becomes a failed row.",
    )


class RowSettings(RowLimits):
    """Names, types and limits of the rows."""

    columns: Annotated[dict[str, str], AfterValidator(_check_columns)] = Field(
        {},
        description="Columns and candidate fields that have other names in the input: {query_id: qid, doc_id: docno}.",
    )
    cast_ids: bool = Field(
        False,
        description="Accept integer ids: 7 becomes the text 7. Ids in qrels and other files must have the same form.",
    )


class InputConfig(RowSettings):
    """Where the candidates are, and the names, types and limits of their rows."""

    path: Url = Field(
        description="Candidates: a file or folder, local or s3://, in nested form (one row per query) or "
        "long form (one row per candidate). All files of a folder are data, except notes such as `*.md` and `*.txt`. "
        'With format "iceberg", the name of a table; with "hugging_face", also hf://datasets/OWNER/NAME.'
    )
    format: str = Field(
        "parquet",
        description='"parquet", "csv", "tsv", "jsonl", "delta", "iceberg", "lance", "hugging_face", or "module:Class" '
        "of an input format outside the package.",
    )
    version: Annotated[str, BeforeValidator(_version_text)] | None = Field(
        None,
        description="Version of the table to read: number of a Delta or Lance version, id of an Iceberg snapshot, "
        "revision of a dataset on the Hugging Face Hub. None: the version that the run began with; for a new run, the "
        "latest.",
    )
    options: dict[str, Any] = Field(
        {},
        description="Settings of the input format: catalog and its properties (iceberg), split and config "
        "(hugging_face with hf://), or those of a format outside the package.",
    )


class OutputConfig(Section):
    """Where the results are written, and what is stored in addition to the rankings."""

    path: Url = Field(
        description="Output folder, local or s3://, with data files, and control files whose names start with _."
    )
    format: str = Field(
        "parquet", description='Name of an output format, or "module:Class" of one outside the package.'
    )
    options: dict[str, Any] = Field({}, description="Settings of an output format outside the package.")
    keep_reasoning: bool = Field(False, description="Store the reasoning of each window in the output.")
    completion_cache: bool = Field(
        True,
        description="Store completions until their query is written, so that a resumed run can reuse them. If false, "
        "a resumed run still reuses stored completions.",
    )
    lease_seconds: float = Field(
        60.0,
        ge=2,
        description="Duration of the output lease. If a run does not renew it for this long, another run may start.",
    )
