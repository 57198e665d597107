"""Print the table of docs/stores.md: what happens to a job on each store, and on moto behind a proxy."""

import os
from collections.abc import Iterator
from contextlib import ExitStack

from corpus_reranker.io.settings import StorageConfig
from helpers.fault_proxy import fault_proxy
from helpers.s3_server import S3Server, running_moto, running_s3_server, running_seaweedfs
from helpers.store_behaviors import STORE_BEHAVIORS
from helpers.store_matrix import PHASES, Job


def main() -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        os.environ.setdefault(name, "test")
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    print(f"| store or behavior | {' | '.join(PHASES)} | message |")
    print("|---" * (len(PHASES) + 2) + "|")
    with ExitStack() as servers:
        moto = servers.enter_context(running_moto())
        stores = {"moto": moto, "SeaweedFS": servers.enter_context(running_seaweedfs())}
        if endpoint_url := os.environ.get("RERANKER_TEST_S3_ENDPOINT"):
            stores[endpoint_url] = servers.enter_context(running_s3_server())
        for name, server in stores.items():
            print(row(name, Job(server.storage, server.storage, server.bucket).run()), flush=True)
        for name, outcomes in behaviors(moto):
            print(row(name, outcomes), flush=True)


def behaviors(moto: S3Server) -> Iterator[tuple[str, dict[str, str]]]:
    """Each behavior, and what happens in each phase."""
    for name, behavior in STORE_BEHAVIORS.items():
        with fault_proxy(moto.endpoint_url, behavior=behavior) as proxy:
            attempts = 10 if name == "503_storm" else 3  # with pauses of up to 20 seconds between them
            storage = StorageConfig(endpoint_url=proxy.endpoint_url, region="us-east-1", max_attempts=attempts)
            yield name, Job(storage, moto.storage, moto.bucket).run()


def row(name: str, outcomes: dict[str, str]) -> str:
    """The row of the table; names of buckets and keys are removed from the message."""
    message = next((outcome for outcome in outcomes.values() if not outcome.startswith("ok")), "")
    code, _, text = message.partition(": ")
    cells = [outcomes.get(phase, "–") for phase in PHASES]
    cells = [cell if cell.startswith(("ok", "–")) else code for cell in cells]
    return f"| {name} | {' | '.join(cells)} | {text} |"


if __name__ == "__main__":
    main()
