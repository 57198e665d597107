"""The files in configs/deploy/: manifests match their CRDs, and commands parse to a valid job config.

The key lists come from KubeRay 1.7's CRDs (ray-operator/config/crd/bases/ray.io_rayjobs.yaml, ray.io_raycronjobs.yaml)
and Kubernetes' core/v1 PodSpec, reduced to the keys that the manifests use.
"""

import configparser
import importlib.util
import re
import shlex
import sys
from datetime import timedelta
from types import ModuleType
from typing import Any
from unittest.mock import create_autospec

import pytest
import yaml
from ray.job_submission import JobStatus, JobSubmissionClient

from corpus_reranker.config.dates import DATE_PLACEHOLDER
from corpus_reranker.config.schema import JobConfig
from corpus_reranker.paths import CONFIGS_DIRECTORY
from helpers.command_line import parse_command

DEPLOY = CONFIGS_DIRECTORY / "deploy"

Keys = dict[str, Any]
"""Known keys; None for a leaf, a dict for an object or for each object of a list."""

QUANTITIES: Keys = {"cpu": None, "memory": None, "nvidia.com/gpu": None}
CONTAINER: Keys = {
    "name": None,
    "image": None,
    "ports": {"name": None, "containerPort": None},
    "resources": {"requests": QUANTITIES, "limits": QUANTITIES},
    "volumeMounts": {"name": None, "mountPath": None, "readOnly": None},
    "env": {"name": None, "value": None},
}
POD: Keys = {
    "spec": {
        "serviceAccountName": None,
        "nodeSelector": {"NODE-POOL-LABEL": None},
        "tolerations": {"key": None, "operator": None, "effect": None},
        "containers": CONTAINER,
        "volumes": {
            "name": None,
            "persistentVolumeClaim": {"claimName": None, "readOnly": None},
            "emptyDir": {"medium": None, "sizeLimit": None},
        },
    }
}
RAY_JOB: Keys = {
    "backoffLimit": None,
    "shutdownAfterJobFinishes": None,
    "ttlSecondsAfterFinished": None,
    "activeDeadlineSeconds": None,
    "entrypoint": None,
    "rayClusterSpec": {
        "rayVersion": None,
        "authOptions": {"mode": None},
        "enableInTreeAutoscaling": None,
        "autoscalerOptions": {"version": None, "idleTimeoutSeconds": None},
        "headGroupSpec": {"rayStartParams": {"num-cpus": None, "dashboard-host": None}, "template": POD},
        "workerGroupSpecs": {
            "groupName": None,
            "replicas": None,
            "minReplicas": None,
            "maxReplicas": None,
            "rayStartParams": {},
            "template": POD,
        },
    },
}
TOP: Keys = {"apiVersion": None, "kind": None}
MANIFESTS: dict[str, Keys] = {
    "rayjob.yaml": {**TOP, "metadata": {"generateName": None}, "spec": RAY_JOB},
    "raycronjob.yaml": {
        **TOP,
        "metadata": {"name": None},
        "spec": {"schedule": None, "timeZone": None, "jobTemplate": RAY_JOB},
    },
    "service-account.yaml": {**TOP, "metadata": {"name": None, "annotations": {"eks.amazonaws.com/role-arn": None}}},
}


def manifest(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / name).read_text())
    return loaded


def unknown_keys(value: Any, known: Keys | None, path: str = "") -> list[str]:
    """Paths of keys that `known` lacks, and of values with the wrong shape: an object for a leaf or the reverse."""
    if isinstance(value, list) and known is not None:
        return [found for each in value for found in unknown_keys(each, known, f"{path}[]")]
    if known is None or not isinstance(value, dict):
        return [] if (known is None) == (not isinstance(value, dict | list)) else [f"{path}: wrong shape"]
    unknown = [f"{path}.{key}" for key in value if key not in known]
    return unknown + [
        found for key in value.keys() & known for found in unknown_keys(value[key], known[key], f"{path}.{key}")
    ]


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_use_only_known_keys(name: str) -> None:
    assert unknown_keys(manifest(name), MANIFESTS[name]) == []


def test_a_wrong_key_is_found() -> None:
    job = manifest("rayjob.yaml")
    job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["minReplica"] = 0
    job["spec"]["ttlSecondsAfterFinished"] = {"seconds": 1}
    assert sorted(unknown_keys(job, MANIFESTS["rayjob.yaml"])) == [
        ".spec.rayClusterSpec.workerGroupSpecs[].minReplica",
        ".spec.ttlSecondsAfterFinished: wrong shape",
    ]


def test_a_ray_job_retries_resumes_and_cleans_up() -> None:
    spec = manifest("rayjob.yaml")["spec"]
    assert spec["backoffLimit"] > 0  # each retry resumes
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["ttlSecondsAfterFinished"] > 0
    cluster = spec["rayClusterSpec"]
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"  # every value of rayStartParams is a string
    (workers,) = cluster["workerGroupSpecs"]
    assert workers["minReplicas"] == workers["replicas"] == 0 < workers["maxReplicas"]
    (container,) = workers["template"]["spec"]["containers"]
    requests, limits = (container["resources"][each] for each in ("requests", "limits"))
    assert (requests["nvidia.com/gpu"], requests["memory"]) == (limits["nvidia.com/gpu"], limits["memory"])
    volumes = {volume["name"] for volume in workers["template"]["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    account = manifest("service-account.yaml")["metadata"]["name"]
    pods = [cluster["headGroupSpec"]["template"], workers["template"]]
    assert {pod["spec"]["serviceAccountName"] for pod in pods} == {account}


def test_the_scheduled_job_differs_only_in_entrypoint_and_deadline() -> None:
    scheduled, once = manifest("raycronjob.yaml")["spec"]["jobTemplate"], manifest("rayjob.yaml")["spec"]
    differing = {key for key in once if scheduled.get(key) != once[key]}
    assert differing == {"entrypoint", "activeDeadlineSeconds"}
    assert scheduled.keys() == once.keys()
    assert scheduled["activeDeadlineSeconds"] < timedelta(hours=23).total_seconds()  # from 01:00, before the next day


def config_of(command: str) -> JobConfig:
    """The job config of a shell command, with a fixed date. Raises if the command line or the config is not valid."""
    words = shlex.split(re.sub(r'"?\$\(date [^)]*\)"?', "2026-11-25", command).replace("DATE", "2026-11-25"))
    start = next(index for index, word in enumerate(words) if word.endswith("corpus-reranker"))
    name, arguments = words[start + 1], words[start + 2 :]
    assert name == "rerank"
    return parse_command(name, arguments).job()


def commands() -> dict[str, str]:
    service = configparser.ConfigParser(interpolation=None)
    service.optionxform = str  # type: ignore[assignment, method-assign]
    service.read(DEPLOY / "corpus-reranker.service")
    shell = shlex.split(service["Service"]["ExecStart"].replace("%%", "%"))
    assert shell[:2] == ["/bin/bash", "-c"]
    crontab = (DEPLOY / "crontab").read_text().replace("\\%", "%")
    job = re.search(r"^JOB=(.*)$", crontab, re.MULTILINE)
    assert job
    lines = [line.split("reranker", 1)[1] for line in crontab.splitlines() if re.match(r"\d+ \d+ \* \* \* ", line)]
    assert len(lines) == 2
    return {
        "rayjob": manifest("rayjob.yaml")["spec"]["entrypoint"],
        "raycronjob": manifest("raycronjob.yaml")["spec"]["jobTemplate"]["entrypoint"],
        "systemd": shell[2],
        **{f"cron {number}": line.replace("$JOB", job[1]) for number, line in enumerate(lines)},
    }


@pytest.mark.parametrize("name", ["rayjob", "raycronjob", "systemd", "cron 0", "cron 1"])
def test_commands_are_valid_and_fill_in_the_date(name: str) -> None:
    config = config_of(commands()[name])
    assert config.input.path == "s3://BUCKET/candidates/dt=2026-11-25"
    assert config.output.path == "s3://BUCKET/reranked/dt=2026-11-25"


class Airflow(ModuleType):
    """Stub of airflow.sdk 3: `dag` and `task` accept only arguments that Airflow has."""

    def __init__(self) -> None:
        super().__init__("airflow.sdk")
        self.calls: dict[str, dict[str, Any]] = {}
        self.functions: dict[str, Any] = {}

    def dag(self, *, schedule: str, start_date: Any, catchup: bool, max_active_runs: int, tags: list[str]) -> Any:
        return lambda function: function

    def task(self, function: Any = None, **options: Any) -> Any:
        assert options.keys() <= {"retries", "retry_delay", "execution_timeout"}

        def decorate(body: Any) -> Any:
            self.functions[body.__name__] = body

            def call(*arguments: Any, **named: Any) -> str:
                self.calls[body.__name__] = {"arguments": arguments, "named": named, "options": options}
                return f"XCom of {body.__name__}"

            return call

        return decorate(function) if function else decorate


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> Airflow:
    """The DAG file, loaded as Airflow loads it."""
    stub = Airflow()
    monkeypatch.setitem(sys.modules, "airflow", ModuleType("airflow"))
    monkeypatch.setitem(sys.modules, "airflow.sdk", stub)
    monkeypatch.setenv("RAY_ADDRESS", "http://head:8265")
    spec = importlib.util.spec_from_file_location("airflow_dag", DEPLOY / "airflow_dag.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "airflow_dag", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "POLL_SECONDS", 0)
    return stub


def client_with(statuses: list[Any]) -> Any:
    client = create_autospec(JobSubmissionClient, instance=True)
    client.submit_job.return_value = "job-1"
    client.get_job_status.side_effect = statuses
    client.get_job_logs.return_value = "error: the reason"
    return client


def rerank(airflow: Airflow, client: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(sys.modules["airflow_dag"], "JobSubmissionClient", lambda address: client)
    output: str = airflow.functions["rerank"](date="2026-11-25")
    return output


def test_the_dag_submits_waits_and_passes_the_output_on(airflow: Airflow, monkeypatch: pytest.MonkeyPatch) -> None:
    client = client_with([JobStatus.PENDING, JobStatus.RUNNING, JobStatus.SUCCEEDED])
    assert rerank(airflow, client, monkeypatch) == "s3://BUCKET/reranked/dt=2026-11-25"
    config = config_of(client.submit_job.call_args.kwargs["entrypoint"])
    assert config.output.path == "s3://BUCKET/reranked/dt=2026-11-25"
    assert not client.stop_job.called
    assert airflow.calls["publish"]["arguments"] == ("XCom of rerank",)
    assert airflow.calls["rerank"]["options"]["retries"] > 0


@pytest.mark.parametrize("status", [JobStatus.FAILED, JobStatus.STOPPED])
def test_the_dag_fails_with_the_job(airflow: Airflow, status: JobStatus, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="the reason"):
        rerank(airflow, client_with([JobStatus.RUNNING, status]), monkeypatch)


def test_a_killed_task_stops_its_job(airflow: Airflow, monkeypatch: pytest.MonkeyPatch) -> None:
    client = client_with([JobStatus.RUNNING, KeyboardInterrupt])
    with pytest.raises(KeyboardInterrupt):
        rerank(airflow, client, monkeypatch)
    client.stop_job.assert_called_once_with("job-1")


def test_images_run_unprivileged_and_contain_the_wheel() -> None:
    stages = re.split(r"^FROM ", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)[1:]
    targets = {stage.splitlines()[0].split(" AS ")[1]: stage for stage in stages}
    assert targets.keys() == {"wheel", "base", "cpu", "gpu"}
    copied = {
        path for line in re.findall(r"^COPY (?!--)(.*) \S+$", targets["wheel"], re.MULTILINE) for path in line.split()
    }
    assert {"pyproject.toml", "pipeline", "jobs", "configs"} <= copied
    assert all((DEPLOY.parent.parent / path).exists() for path in copied)
    for name in ("cpu", "gpu"):
        assert re.findall(r"^USER (.*)$", targets[name], re.MULTILINE) == ["1000"]
        assert re.search(rf"\[{name},cluster\]", targets[name])


def test_every_deploy_file_uses_the_date_placeholder() -> None:
    for file in ("rayjob.yaml", "raycronjob.yaml", "crontab", "corpus-reranker.service", "airflow_dag.py"):
        assert (DEPLOY / file).read_text().count(f"dt={DATE_PLACEHOLDER}") == 2, file
