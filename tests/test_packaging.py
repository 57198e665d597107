"""The wheel and the sdist as users get them: their contents, the commands, and user folders with colliding names."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import corpus_reranker
from corpus_reranker.cli.app import COMMANDS
from corpus_reranker.config.loader import load_config
from helpers.paths import REPOSITORY
from helpers.runs import query, rows_of_folder, write_input

pytestmark = pytest.mark.slow

COLLIDING_NAMES = ("pipeline", "jobs", "configs", "tests", "cli")


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist, built without isolation, so that no network is needed."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder)]
    subprocess.run(build, cwd=REPOSITORY, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def site(dist: Path) -> Path:
    """The wheel as site-packages holds it."""
    (wheel,) = dist.glob("*.whl")
    assert wheel.name.startswith(f"corpus_reranker-{corpus_reranker.__version__}-")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(dist / "site")
    return dist / "site"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's project folder whose own packages collide with folder names of the repository."""
    for name in COLLIDING_NAMES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise ImportError('this is the user\\'s own {name}')\n")
    return tmp_path


def run_installed(site: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in `folder`, which comes first on the path, with the wheel's content installed."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**environment, "PYTHONPATH": os.pathsep.join([str(folder), str(site)])},
        capture_output=True,
        text=True,
        check=False,
    )


def files(root: Path, *, below: str = "") -> set[str]:
    found = (path for path in (root / below).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(root / below)) for path in found}


def test_the_wheel_holds_the_package_with_configs_as_its_data(site: Path) -> None:
    (metadata,) = site.glob("*.dist-info")
    assert {path.name for path in site.iterdir()} == {"corpus_reranker", metadata.name}
    package = files(REPOSITORY, below="pipeline/corpus_reranker")
    configs = {f"configs/{name}" for name in files(REPOSITORY, below="configs")}
    assert files(site, below="corpus_reranker") == package | configs
    assert "py.typed" in package
    assert "corpus-reranker = corpus_reranker.__main__:main" in (metadata / "entry_points.txt").read_text()
    assert f"\nVersion: {corpus_reranker.__version__}\n" in (metadata / "METADATA").read_text()


def test_the_sdist_holds_every_tracked_file(dist: Path) -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, check=False, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert set(tracked.stdout.splitlines()) - names == set()


def test_ready_made_configs_and_their_templates_load_by_name(
    site: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "from corpus_reranker.config.loader import load_config\n"
        "from corpus_reranker.paths import CONFIGS_DIRECTORY\n"
        "names = ['reasonrank-7b', 'reasonrank-8b', 'reasonrank-32b', 'demo/demo']\n"
        "paths = ['--input.path=in', '--output.path=out']\n"
        "print(len({load_config(name, paths).fingerprint() for name in names}), CONFIGS_DIRECTORY)\n"
        "print(load_config('demo/demo').fingerprint())"
    )
    done = run_installed(site, folder, "-c", code)
    monkeypatch.chdir(folder)  # the fingerprint has the content of models in .cache/, if they are there
    assert done.stdout.split() == [
        "4",
        str(site / "corpus_reranker" / "configs"),
        load_config("demo/demo").fingerprint(),  # a run begun from a checkout is resumed from the wheel
    ], done.stderr


def test_the_command_line_of_an_installed_package(site: Path, folder: Path) -> None:
    listed = run_installed(site, folder, "-m", "corpus_reranker")
    words = [line.split()[0] for line in listed.stdout.splitlines() if line.strip()]
    assert [word for word in words if word in COMMANDS] == [name for name in COMMANDS if name != "dev"], listed.stderr
    version = run_installed(site, folder, "-m", "corpus_reranker", "--version")
    assert version.stdout.strip() == corpus_reranker.__version__
    status = run_installed(site, folder, "-m", "corpus_reranker", "status", "nothing-here")
    assert (status.returncode, "no run has started here" in status.stdout) == (4, True), status.stderr
    unknown = run_installed(site, folder, "-m", "corpus_reranker", "rerank", "--config", "reasonrank-9b")
    assert unknown.returncode == 2
    assert all(name in unknown.stderr for name in ("no such file or ready-made config (", "reasonrank-7b", "demo/demo"))


def test_a_run_is_not_disturbed_by_user_packages_of_colliding_names(site: Path, folder: Path) -> None:
    """The folder is on the path of the driver and, through PYTHONPATH, of every Ray worker."""
    write_input(folder / "data", [query(number) for number in range(3)])
    done = run_installed(
        site,
        folder,
        "-m",
        "corpus_reranker",
        "rerank",
        "--input.path=data",
        "--output.path=out",
        "--engine.kind=scripted",
        "--strategy={window: 4, stride: 2}",
        "--cluster={replicas: 1}",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(rows_of_folder(folder / "out")) == 3
