"""Config section `cache`."""

import os
from typing import Annotated

from pydantic import AfterValidator, Field

from corpus_reranker.io.settings import Url
from corpus_reranker.section import Section


def _absolute(url: str) -> str:
    """Make a relative path absolute, because a replica's working directory differs from the driver's."""
    return url if "://" in url else os.path.abspath(os.path.expanduser(url))  # noqa: PTH100, PTH111


class CacheConfig(Section):
    """Completions that runs share."""

    path: Annotated[Url, AfterValidator(_absolute)] | None = Field(
        None,
        description="Folder of completions, local or s3://, that any number of runs and replicas read and write. "
        "A window whose prompt, model and sampling have not changed is not requested again. None: runs share no "
        "completions.",
    )
    max_gib: float = Field(20.0, gt=0, description="Maximum size. A finished run deletes the oldest completions.")
    max_age_days: float = Field(30.0, gt=0, description="Maximum age. A finished run deletes older completions.")
