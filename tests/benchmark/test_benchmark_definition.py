"""Definitions of benchmarks: ready-made ones, files, and folders."""

from pathlib import Path

import pytest

from corpus_reranker.benchmark.definition import choose_splits, how_to_fill, load_benchmark
from corpus_reranker.benchmark.published import PUBLISHED_FIGURES, figures_of, published_table
from corpus_reranker.config.loader import load_config
from corpus_reranker.errors import ConfigError, InputError
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.paths import BENCHMARKS_DIRECTORY

NAMES = sorted(path.stem for path in BENCHMARKS_DIRECTORY.glob("*.yaml"))
LOCAL = StorageConfig()


@pytest.mark.parametrize("name", NAMES)
def test_every_split_of_a_ready_made_benchmark_is_a_valid_config(name: str) -> None:
    benchmark, is_folder = load_benchmark(name, LOCAL)
    assert not is_folder
    for split in choose_splits(benchmark, "/data"):
        sections = [f"--{section}={values}" for section, values in split.sections.items()]
        job = load_config("reasonrank-7b", [*sections, "--input.path=in", "--output.path=out"])
        assert job.assemble is not None
        assert job.dataset is not None
        assert job.dataset.path.startswith("/data")
        assert job.assemble.run.path.startswith("/data/")
        assert split.name in f"{job.assemble.run.path} {job.dataset}"
    assert "/data" in how_to_fill(benchmark, "/data/")


def test_published_figures_are_those_of_splits() -> None:
    """A figure with another name would never be shown beside a result."""
    benchmarks = {benchmark.title: benchmark for benchmark, _ in (load_benchmark(name, LOCAL) for name in NAMES)}
    for figure in PUBLISHED_FIGURES:
        if figure.split is not None:
            assert figure.split in benchmarks[figure.benchmark].splits
    assert figures_of("BRIGHT")
    assert figures_of("TREC DL")
    assert not figures_of("mine")
    rows = published_table().splitlines()[2:]
    assert len(rows) == len(PUBLISHED_FIGURES)
    assert any(row.startswith("| RankZephyr 7B | TREC DL 2020 | BM25 |  | 70.9 | [arXiv 2312.02724](") for row in rows)


def test_the_subfolders_of_a_folder_are_the_splits(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no subfolder; each split is a subfolder in BEIR's layout"):
        load_benchmark(str(tmp_path), LOCAL)
    for name in ("b", "a", "_out", ".git"):
        (tmp_path / name).mkdir()
    benchmark, is_folder = load_benchmark(str(tmp_path), LOCAL)
    assert is_folder
    assert benchmark.title == tmp_path.name
    splits = choose_splits(benchmark, str(tmp_path))
    assert [split.name for split in splits] == ["a", "b"]
    assert splits[0].sections == {
        "dataset": {"layout": "beir", "path": f"{tmp_path}/a"},
        "assemble": {"run": {"path": f"{tmp_path}/a/run.*"}},
    }


def test_a_yaml_file_defines_a_benchmark(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "title: mine\nfill: files in {folder}\nsections: {evaluate: {measures: [RR], qrels: '{folder}/{split}.txt'}}\n"
        "splits: {a: {}, b: {evaluate: {qrels: b.txt}}}\n"
    )
    benchmark, _ = load_benchmark(str(file), LOCAL)
    a, b = choose_splits(benchmark, "/data", run="{split}.run")
    assert a.sections == {
        "evaluate": {"measures": ["RR"], "qrels": "/data/a.txt"},
        "assemble": {"run": {"path": "a.run"}},
    }
    assert b.sections == {"evaluate": {"measures": ["RR"], "qrels": "b.txt"}, "assemble": {"run": {"path": "b.run"}}}
    assert choose_splits(benchmark, "/data", ["b"], "one.run")[0].sections["assemble"] == {"run": {"path": "one.run"}}
    file.write_text("title: mine\nfil: x\nsections: {}\nsplits: {}\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml: .*unknown key 'fil'; did you mean 'fill'"):
        load_benchmark(str(file), LOCAL)
    with pytest.raises(ConfigError, match=r"no benchmark absent\.yaml"):
        load_benchmark("absent.yaml", LOCAL)
