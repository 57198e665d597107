"""Config section of the publish command."""

from pydantic import Field, field_validator

from corpus_reranker.io.secrets import secret_option
from corpus_reranker.io.settings import Url
from corpus_reranker.publish.registry import table_class
from corpus_reranker.section import Section


class PublishConfig(Section):
    """The table that gets the rows of a finished output."""

    to: str = Field(description='Kind of table: delta, iceberg, lance, hugging_face, or "module:Class".')
    destination: Url = Field(description="Folder or URL of the table; for iceberg its name, NAMESPACE.TABLE.")
    partition: str | None = Field(
        None,
        description='Value of the partition column, such as "{date}": only the rows with this value are replaced. '
        "None: all rows are replaced.",
    )
    partition_column: str = Field("date", min_length=1, description="Column that `partition` adds to the rows.")
    columns: tuple[str, ...] | None = Field(
        None, min_length=1, description="Columns of the output to publish. None: all."
    )
    options: dict[str, str] = Field(
        {},
        description="Options of the library, which override those of the section storage: storage_options of "
        "delta and lance, properties of the iceberg catalog. No secrets.",
    )
    catalog: str = Field("default", description="Name of the Iceberg catalog, as in .pyiceberg.yaml.")
    allow_simulated: bool = Field(
        False, description="Publish an output whose engine was scripted or simulated: no model ranked it."
    )

    @field_validator("to")
    @classmethod
    def _known_kind(cls, to: str) -> str:
        table_class(to)
        return to

    @field_validator("options")
    @classmethod
    def _without_secrets(cls, options: dict[str, str]) -> dict[str, str]:
        if secret := secret_option(options):
            raise ValueError(
                f"{secret} may hold a secret, which the output would store; set it in the AWS environment or"
                " profile, or for iceberg in .pyiceberg.yaml or as PYICEBERG_CATALOG__... in the environment"
            )
        return options
