"""The job on a real Ray cluster of several nodes on this machine, submitted over the job API as a user would."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prometheus_client.parser import text_string_to_metric_families
from ray.cluster_utils import Cluster
from ray.job_submission import JobStatus, JobSubmissionClient

from corpus_reranker.paths import CONFIGS_DIRECTORY
from corpus_reranker.run.metrics import PREFIX
from helpers.paths import REPOSITORY
from helpers.ray_cluster import add_node, ray_folder, start_cluster
from helpers.runs import check_ranking, query, rows_of_folder, write_input

pytestmark = pytest.mark.slow

WORKER_CPUS = 4
"""A replica of 3 CPUs leaves one for reading and writing, so two replicas cannot share a node."""

QUERIES_IN_FLIGHT = 4
"""Per replica."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head node without CPUs, as a cluster on spot nodes should have, and two worker nodes.

    It has its own RAY_TMPDIR: a job goes to the Ray that started last in that folder, which may be another Ray.
    """
    with pytest.MonkeyPatch.context() as patch, ray_folder() as folder:
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")  # the jobs' `python`
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.delenv("PYTHONPATH", raising=False)  # only the jobs bring the package to the nodes
        cluster = start_nodes()
        for _ in range(2):
            if serves_metrics(cluster):
                break
            cluster.shutdown()  # another process took a port that Ray had found free
            cluster = start_nodes()
        try:
            yield cluster
        finally:
            cluster.shutdown()


def start_nodes() -> Cluster:
    head = {"num_cpus": 0, "include_dashboard": True, "dashboard_host": "127.0.0.1", "dashboard_port": 0}
    head["dashboard_agent_listen_port"] = 0  # the default port may be taken by another Ray
    head["runtime_env_dir_name"] = "head"
    head["_system_config"] = {"metrics_report_interval_ms": 1000}
    cluster = start_cluster(**head)
    for _ in range(2):
        add_worker_node(cluster)
    return cluster


def add_worker_node(cluster: Cluster) -> None:
    """Add a node with its own folder of working directories.

    By default, the nodes of a test cluster share one folder. Each node that starts its part of a job then deletes the
    unpacked package and unpacks it again, while the other nodes' processes import it.
    """
    add_node(cluster, num_cpus=WORKER_CPUS, runtime_env_dir_name=uuid.uuid4().hex)


def serves_metrics(cluster: Cluster, seconds: float = 60) -> bool:
    """Whether every node serves its metrics within `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if all("ray_" in read_metrics(node) for node in cluster.list_all_nodes()):
                return True
        time.sleep(0.5)
    return False


def read_metrics(node: Any) -> str:
    url = f"http://{node.node_ip_address}:{node.metrics_export_port}/metrics"
    with urllib.request.urlopen(url, timeout=30) as page:
        return str(page.read().decode())


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout whose package has an additional module, which no installed package has."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("configs", "jobs", "pipeline"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    only_here = folder / "pipeline/corpus_reranker/only_in_the_checkout.py"
    only_here.write_text("from corpus_reranker.engines.scripted import reverse_order as answers\n")
    return folder


FROM_CHECKOUT = ("python", "jobs/rerank.py", "--engine.answers=corpus_reranker.only_in_the_checkout:answers")
INSTALLED = ("python", "-m", "corpus_reranker", "rerank")


def entrypoint(program: Sequence[str], folder: Path, *overrides: str) -> list[str]:
    """A job with two slow replicas, one per node. A query has two windows."""
    return [
        *program,
        f"--input.path={folder}/in",
        f"--output.path={folder}/out",
        "--engine.kind=scripted",
        "--engine.delay_seconds=0.2",
        "--strategy={window: 4, stride: 2}",
        "--cluster={replicas: 2, cpus_per_replica: 3, queries_per_block: 2, progress_seconds: 1}",
        f"--cluster.queries_in_flight={QUERIES_IN_FLIGHT}",
        *overrides,
    ]


def ray_job(cluster: Cluster, folder: Path, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the `ray job` command line in `folder`."""
    return subprocess.run(
        [Path(sys.executable).parent / "ray", "job", command, "--address", f"http://{cluster.webui_url}", *arguments],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )


def wait_until(client: JobSubmissionClient, job_id: str, condition: Callable[[], Any], seconds: float = 300) -> None:
    """Wait until `condition` holds. If the job ends first, or `seconds` pass, the test fails with the job's log."""
    deadline, ended = time.monotonic() + seconds, False
    while time.monotonic() < deadline and not ended:
        with contextlib.suppress(OSError):  # a node that has just started or ended serves no metrics
            ended = client.get_job_status(job_id).is_terminal()
            if condition():
                return
        time.sleep(0.5)  # the conditions scrape every node, or read all footers
    pytest.fail(f"the condition does not hold; the job's log:\n{client.get_job_logs(job_id)}")


def scrape(cluster: Cluster, folder: Path) -> tuple[dict[str, Counter[str]], set[str]]:
    """Values of the run's metrics by name and status ("" if it has none), summed over nodes; and all names."""
    record = folder / "_run/run.json"
    run_id = json.loads(record.read_text())["run_id"] if record.exists() else None
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    names = set()
    for node in cluster.list_all_nodes():
        families = list(text_string_to_metric_families(read_metrics(node)))
        for sample in (sample for family in families for sample in family.samples):
            if sample.name.startswith(f"ray_{PREFIX}") and sample.labels["run_id"] == run_id:
                names.add(sample.name)
                counts[sample.name.removeprefix(f"ray_{PREFIX}")][sample.labels.get("status", "")] += int(sample.value)
    return counts, names


def only_one_in_flight(scraped: Mapping[str, Mapping[str, int]]) -> bool:
    """All other queries are finished. A gauge may lag a counter by one report of the replica."""
    return scraped["queries_total"]["complete"] == 19 and scraped["queries_in_flight"][""] == 1


def queries_written(folder: Path) -> int:
    """Rows in the complete data files of a run that may be writing another file."""
    rows = 0
    for data_file in folder.rglob("part-*.parquet"):
        with contextlib.suppress(pa.ArrowInvalid):
            rows += pq.read_metadata(data_file).num_rows
    return rows


def check_output(folder: Path, sources: list[dict[str, Any]]) -> dict[str, Any]:
    """Assert that every query appears once with all candidates; return the rows by query id."""
    rows = rows_of_folder(folder)
    assert sorted(rows) == [source["query_id"] for source in sources]
    for source in sources:
        check_ranking(rows[source["query_id"]], source)
    assert (folder / "_SUCCESS").exists()
    return rows


def check_metrics(scraped: Mapping[str, Mapping[str, int]], rows: Sequence[dict[str, Any]]) -> None:
    """Assert that the metrics equal the counts of these output rows."""
    windows = [window for row in rows for window in row["windows"]]
    assert scraped["queries_total"] == Counter(row["status"] for row in rows)
    assert scraped["windows_total"] == Counter(window["status"] for window in windows)
    assert scraped["window_seconds_count"][""] == scraped["completions_total"][""] == len(windows)
    for tokens in ("prompt_tokens", "output_tokens"):
        assert scraped[f"{tokens}_total"][""] == sum(window[tokens] for window in windows)
    assert scraped["queries_remaining"][""] == scraped["queries_in_flight"][""] == scraped["windows_in_flight"][""] == 1
    assert scraped["queue_wait_seconds_count"][""] == len(rows) + 1
    assert scraped["engine_starts_total"][""] == 2


NOT_YET_COUNTED = {f"ray_{PREFIX}engine_deaths_total"}
"""A counter is exported after its first increment."""


def dashboard_metrics() -> set[str]:
    """Names of our metrics in the Grafana dashboard."""
    text = (CONFIGS_DIRECTORY / "deploy" / "grafana-dashboard.json").read_text()
    return set(re.findall(rf"ray_{PREFIX}\w+", text))


def test_an_invalid_config_fails_the_job(cluster: Cluster, checkout: Path, tmp_path: Path) -> None:
    command = entrypoint(FROM_CHECKOUT, tmp_path, "--strategy.strid=1")
    refused = ray_job(cluster, checkout, "submit", "--working-dir", ".", "--", *command)
    assert (refused.returncode, "did you mean 'stride'?" in refused.stdout) == (1, True), refused.stdout


def test_a_stopped_job_resumes_from_a_checkout(cluster: Cluster, checkout: Path, tmp_path: Path) -> None:
    """The package comes with the working directory; the nodes do not have it installed."""
    sources = [query(number) for number in range(20)]
    write_input(tmp_path / "in", sources)
    client = JobSubmissionClient(f"http://{cluster.webui_url}")
    command = entrypoint(
        FROM_CHECKOUT, tmp_path, f"--engine.log_path={tmp_path}/requests", "--cluster.queries_per_block=1"
    )
    options = ["--no-wait", "--submission-id", "stopped", "--working-dir", "."]
    job = ray_job(cluster, checkout, "submit", *options, "--", *command, "--engine.slow={q0019: 600}")
    assert job.returncode == 0, job.stderr
    out = tmp_path / "out"
    wait_until(client, "stopped", lambda: only_one_in_flight(scrape(cluster, out)[0]) and queries_written(out) == 19)
    scraped, names = scrape(cluster, out)
    assert ray_job(cluster, checkout, "stop", "stopped").returncode == 0
    assert client.get_job_status("stopped") == JobStatus.STOPPED
    assert not (out / "_SUCCESS").exists()
    resumed = ray_job(cluster, checkout, "submit", "--working-dir", ".", "--", *command)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    finished = re.search(r"(\d+) of 20 queries are finished; reranking the rest", resumed.stdout)
    assert finished
    assert int(finished[1]) == 19
    assert "20/20 queries" in resumed.stdout
    assert "CUDA_VISIBLE_DEVICES" not in resumed.stdout  # Ray sets a variable of this name only for the driver of a job
    rows = check_output(out, sources)
    check_metrics(scraped, [row for query_id, row in rows.items() if query_id != "q0019"])
    assert names >= (dashboard_metrics() - NOT_YET_COUNTED)
    completed = Counter(
        re.findall(r"q\d{4}", entry["prompt"])[0]
        for entry in map(json.loads, (tmp_path / "requests").read_text().splitlines())
        if entry["event"] == "completed"
    )
    assert completed == {source["query_id"]: 2 for source in sources}  # each of its two windows once over both runs


def test_a_run_survives_the_loss_of_a_node(cluster: Cluster, tmp_path: Path) -> None:
    """The package is installed on the nodes; the working directory has folders with the checkout's names.

    The run continues with one node, and starts a replica on the node that replaces the other. The last 60 queries are
    held until then: Ray Data starts no further replica once all blocks have been submitted to one.
    """
    sources = [query(number) for number in range(160)]
    write_input(tmp_path / "in", sources)
    client = JobSubmissionClient(f"http://{cluster.webui_url}")
    project = tmp_path / "project"
    for name in ("pipeline", "jobs", "configs"):
        (project / name).mkdir(parents=True)
        (project / name / "__init__.py").write_text(f"raise ImportError('the {name} of a user')\n")
    python_path = os.pathsep.join([str(REPOSITORY / "pipeline"), str(REPOSITORY / "tests")])
    runtime_env = {"working_dir": str(project), "env_vars": {"PYTHONPATH": python_path}}
    gate = tmp_path / "gate"
    last_queries = f"{{gate: '{gate}', substring: q01}}"
    held = ("--engine.answers=helpers.gated_answers:waits", f"--engine.arguments={last_queries}")
    events = tmp_path / "events"
    command = subprocess.list2cmdline(entrypoint(INSTALLED, tmp_path, *held, f"--cluster.event_log={events}"))
    job_id = client.submit_job(entrypoint=command, runtime_env=runtime_env)
    out = tmp_path / "out"
    wait_until(client, job_id, lambda: " | 2 replicas" in client.get_job_logs(job_id) and queries_written(out))
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
    written = queries_written(out)
    in_flight_on_both = 2 * QUERIES_IN_FLIGHT
    wait_until(client, job_id, lambda: queries_written(out) > written + in_flight_on_both)
    add_worker_node(cluster)
    wait_until(client, job_id, lambda: sum(log.read_text().count('"replica_started"') for log in events.iterdir()) >= 3)
    gate.touch()
    wait_until(client, job_id, lambda: client.get_job_status(job_id).is_terminal())
    assert client.get_job_status(job_id) == JobStatus.SUCCEEDED, client.get_job_logs(job_id)
    check_output(out, sources)
