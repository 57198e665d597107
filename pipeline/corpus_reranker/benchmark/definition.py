"""The definition of a benchmark: a YAML file with the config sections of each split, or a folder of BEIR folders."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pyarrow.fs import FileSelector, FileType
from pydantic import Field, ValidationError

from corpus_reranker.config.merge import merge
from corpus_reranker.errors import ConfigError, InputError
from corpus_reranker.io.filesystem import join, resolve
from corpus_reranker.io.secrets import redact
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.paths import BENCHMARKS_DIRECTORY
from corpus_reranker.section import Section
from corpus_reranker.unique_keys import load_yaml

_Sections = dict[str, dict[str, Any]]


class Benchmark(Section):
    """A benchmark. `{folder}` in a value stands for the folder with the data, `{split}` for the name of the split."""

    title: str = Field(description="Name in the table; published figures have the same name.")
    fill: str = Field(description="How to fill the folder, for messages and docs.")
    sections: _Sections = Field(description="Config sections of every split: dataset, assemble, evaluate.")
    splits: dict[str, _Sections] = Field(min_length=1, description="By name: values that override `sections`.")


@dataclass(frozen=True, slots=True)
class Split:
    """One split of a benchmark with its config sections."""

    name: str
    sections: Mapping[str, Any]


def load_benchmark(name: str, storage: StorageConfig) -> tuple[Benchmark, bool]:
    """The benchmark `name`, and whether `name` is itself the folder with the data.

    Args:
        name: A ready-made benchmark, a YAML file, or a folder whose subfolders are the splits, in BEIR's layout.
        storage: How to reach the folder.

    Raises:
        ConfigError: There is no such benchmark, or its file is not valid.
        InputError: The folder has no subfolder.
    """
    is_file = name.endswith((".yaml", ".yml"))
    file = Path(name) if is_file else BENCHMARKS_DIRECTORY / f"{name}.yaml"
    if file.is_file():
        return _load_file(file), False
    filesystem, path = resolve(name, storage)
    if is_file or filesystem.get_file_info(path).type != FileType.Directory:
        known = ", ".join(sorted(each.stem for each in BENCHMARKS_DIRECTORY.glob("*.yaml")))
        raise ConfigError(f"no benchmark {redact(name)}: name one of {known}, a YAML file, or a folder of your own")
    found = filesystem.get_file_info(FileSelector(path))
    names = sorted(each.base_name for each in found if each.type == FileType.Directory)
    splits: dict[str, _Sections] = {each: {} for each in names if not each.startswith(("_", "."))}
    if not splits:
        raise InputError(f"{redact(name)} has no subfolder; each split is a subfolder in BEIR's layout with a run.txt")
    return Benchmark(
        title=path.rpartition("/")[2],
        fill="corpus.jsonl, queries.jsonl, qrels/test.tsv and the first-stage run run.txt in {folder}/SPLIT",
        sections={
            "dataset": {"layout": "beir", "path": "{folder}/{split}"},
            "assemble": {"run": {"path": "{folder}/{split}/run.*"}},
        },
        splits=splits,
    ), True


def _load_file(file: Path) -> Benchmark:
    try:
        return Benchmark.model_validate(load_yaml(file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read benchmark {file}: {error}") from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise ConfigError(f"benchmark {file}: {problems}") from error


def choose_splits(
    benchmark: Benchmark, folder: str, chosen: Collection[str] = (), run: str | None = None
) -> list[Split]:
    """The splits with their sections filled in.

    Args:
        benchmark: The benchmark.
        folder: Folder with the data.
        chosen: Names of splits; empty: all.
        run: Path of the first-stage run of each split, with `{split}`; None: that of the benchmark.

    Raises:
        ConfigError: A chosen split is unknown, or `run` names the same run for several splits.
    """
    if unknown := [name for name in chosen if name not in benchmark.splits]:
        raise ConfigError(f"no split {unknown[0]!r} in {benchmark.title}; it has {', '.join(benchmark.splits)}")
    names = [name for name in benchmark.splits if name in (chosen or benchmark.splits)]
    if run is not None and "{split}" not in run and len(names) > 1:
        raise ConfigError(f"--run {run} is one run for {len(names)} splits; write {{split}} where the names differ")
    given = {} if run is None else {"assemble": {"run": {"path": run}}}
    return [
        Split(name, _fill(merge(merge(benchmark.sections, benchmark.splits[name]), given), folder, name))
        for name in names
    ]


def _fill(value: Any, folder: str, split: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _fill(each, folder, split) for key, each in value.items()}
    if isinstance(value, list):
        return [_fill(each, folder, split) for each in value]
    return value.replace("{folder}", folder).replace("{split}", split) if isinstance(value, str) else value


def how_to_fill(benchmark: Benchmark, folder: str) -> str:
    """What the folder must hold, in one line."""
    return benchmark.fill.replace("{folder}", redact(folder.rstrip("/")))


def split_folder(output: str, split: str) -> str:
    """URL of the folder of a split's candidates, reranked output and evaluation."""
    return join(output.rstrip("/"), split)
