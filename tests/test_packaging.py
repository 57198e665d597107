"""The wheel as a user without a checkout gets it: all of the code, all configs by name, one command."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import corpus_reranker
from helpers.paths import REPOSITORY


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the wheel puts into site-packages. Built without isolation, so without a network."""
    built = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(built)],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    )
    (wheel,) = built.glob("*.whl")
    assert wheel.name.startswith(f"corpus_reranker-{corpus_reranker.__version__}-")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(built / "site")
    return built / "site"


def run_installed(site: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in an empty folder with the wheel's content in front of everything else."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_holds_the_code_and_configs_and_nothing_else(unpacked: Path) -> None:
    def files(root: Path, *folders: str) -> set[str]:
        found = (path for folder in folders for path in (root / folder).rglob("*") if path.is_file())
        return {str(path.relative_to(root)) for path in found if "__pycache__" not in path.parts}

    assert files(unpacked, "pipeline", "jobs", "configs") == files(REPOSITORY, "pipeline", "jobs", "configs")
    (metadata,) = unpacked.glob("*.dist-info")
    assert {path.name for path in unpacked.iterdir()} == {"pipeline", "jobs", "configs", metadata.name}
    assert "corpus-reranker = jobs.__main__:main" in (metadata / "entry_points.txt").read_text()
    assert f"\nVersion: {corpus_reranker.__version__}\n" in (metadata / "METADATA").read_text()


def test_ready_made_configs_and_their_templates_load_by_name(unpacked: Path, tmp_path: Path) -> None:
    code = (
        "from corpus_reranker.config.schema import CONFIGS_DIRECTORY, load_config\n"
        "names = ['reasonrank-7b', 'reasonrank-8b', 'reasonrank-32b', 'demo/demo']\n"
        "print(len({load_config(name).hash() for name in names}), CONFIGS_DIRECTORY)"
    )
    done = run_installed(unpacked, tmp_path, "-c", code)
    assert done.stdout.split() == ["4", str(unpacked / "configs")], done.stderr


def test_the_command_lists_runs_and_refuses_jobs(unpacked: Path, tmp_path: Path) -> None:
    listed = run_installed(unpacked, tmp_path, "-m", "jobs")
    assert {"rerank", "status", "report"} <= {line.split()[0] for line in listed.stdout.splitlines() if line.strip()}
    assert run_installed(unpacked, tmp_path, "-m", "jobs", "--version").stdout.strip() == corpus_reranker.__version__
    status = run_installed(unpacked, tmp_path, "-m", "jobs", "status", "nothing-here")
    assert (status.returncode, "no run has begun here" in status.stdout) == (4, True), status.stderr
    refused = run_installed(unpacked, tmp_path, "-m", "jobs", "rerun")
    assert (refused.returncode, "no job 'rerun'; there are: " in refused.stderr) == (1, True)


def test_an_unknown_config_is_told_with_the_ready_made_ones(unpacked: Path, tmp_path: Path) -> None:
    done = run_installed(unpacked, tmp_path, "-m", "jobs", "rerank", "--config", "reasonrank-9b")
    assert done.returncode == 2
    assert "no such file, nor a ready-made one (" in done.stdout
    assert all(name in done.stdout for name in ("reasonrank-7b", "demo/demo"))
