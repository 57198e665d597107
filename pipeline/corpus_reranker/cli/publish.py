"""`corpus-reranker publish`: publishes a finished output to a table, in one commit."""

from typing import Annotated

import typer

from corpus_reranker.cli.options import (
    AllowSimulated,
    Config,
    ConfigCommand,
    Date,
    JobOptions,
    Json,
    Output,
    command_app,
)
from corpus_reranker.cli.printing import print_json
from corpus_reranker.formatting import counted
from corpus_reranker.io.filesystem import resolve
from corpus_reranker.publish.publisher import publish as publish_output
from corpus_reranker.publish.settings import PublishConfig

app = command_app()


@app.command("publish", cls=ConfigCommand)
def publish(
    context: typer.Context,
    output: Output = None,
    to: Annotated[str | None, typer.Option(metavar="KIND", help="delta, iceberg, lance or hugging_face.")] = None,
    destination: Annotated[
        str | None, typer.Option(help="Table: a folder or URL; for iceberg NAMESPACE.TABLE.")
    ] = None,
    partition: Annotated[
        str | None, typer.Option(help="Replace only the rows of this partition, such as {date}.")
    ] = None,
    config: Config = None,
    date: Date = None,
    allow_simulated: AllowSimulated = None,
    as_json: Json = False,
) -> None:
    """Replace the rows of a table with those of a finished output, in one atomic commit.

    The table gets the column `run_id`. If the table already holds the rows of this run, the command changes nothing, so
    it can be repeated. --partition replaces only the rows of one partition. Reads the config section `publish`.
    """
    own = {"to": to, "destination": destination, "partition": partition, "allow_simulated": allow_simulated}
    options = JobOptions.of_section(context, config, date, "publish", own)
    settings, storage = options.section("publish", PublishConfig), options.storage()
    published = publish_output(resolve(options.output(output), storage), settings, storage)
    if as_json:
        values = {"run_id": published.run_id, "version": published.version, "rows": published.rows}
        print_json({"destination": settings.destination, **values})
    elif published.version is None:
        print(f"{settings.destination}: already holds the rows of run {published.run_id}")
    else:
        print(
            f"{settings.destination}: {counted(published.rows, 'row')} of run {published.run_id}, version"
            f" {published.version}"
        )
