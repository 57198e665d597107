"""Writes a reranked output in an export format, one batch at a time: memory does not grow with the output."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs

from corpus_reranker.errors import InputError, OutputError
from corpus_reranker.evaluation.candidate_texts import CandidateTexts
from corpus_reranker.evaluation.outputs import Output, open_output, read_column_names
from corpus_reranker.evaluation.rankings import read_batches
from corpus_reranker.evaluation.trec import Qrels
from corpus_reranker.export.formats.base import ExportContext, ExportFile
from corpus_reranker.export.registry import export_format_class
from corpus_reranker.export.settings import ExportConfig
from corpus_reranker.export.skipped import SKIPPED_FILE, Skipped
from corpus_reranker.io.atomic_file import atomic_output
from corpus_reranker.io.calibration import Calibration, check_calibrated, with_probabilities

MARKER = "_export.json"
"""Marker file, written first: the folder belongs to an export, and the next export may replace it. It holds the
settings and the metadata of the output."""

SUCCESS = "_SUCCESS"
"""Marker file, written last: the export is complete."""


@dataclass
class Exported:
    """What an export has written so far.

    Attributes:
        skipped: Queries and documents that are in no file.
        files: Paths of finished files.
        queries: Queries written.
        records: Lines or rows written.
        below_cutoff: Documents skipped because of `min_p_relevant`.
        label_sources: Number of training queries by the source of their labels.
    """

    skipped: Skipped
    files: list[str] = field(default_factory=list)
    queries: int = 0
    records: int = 0
    below_cutoff: int = 0
    label_sources: Counter[str] = field(default_factory=Counter)


def export(
    source: tuple[pafs.FileSystem, str],
    destination: tuple[pafs.FileSystem, str],
    config: ExportConfig,
    texts: CandidateTexts | None = None,
    calibration: Calibration | None = None,
    qrels: Qrels | None = None,
) -> Exported:
    """Write the rankings of an output into the `destination` folder, then `_SUCCESS`.

    Every file is written atomically. `_skipped.jsonl` lists the queries and documents that the export skips.

    Args:
        source: Filesystem and path of the output.
        destination: Filesystem and path of the folder to write to.
        config: The format and its settings.
        texts: Query and passage texts, for formats that need them.
        calibration: Gives each document the field `p_relevant`. None: as in the output.
        qrels: Judgments for training data.

    Raises:
        InputError: The output cannot be read, its run has not finished, no model ranked it, or the calibration was
            fitted with other settings.
        OutputError: The destination is not empty and may not be replaced.
    """
    filesystem, path = source
    output = open_output(
        filesystem, path, allow_unfinished=config.allow_unfinished, allow_simulated=config.allow_simulated
    )
    _check_columns(filesystem, output, config)
    if calibration is not None or config.needs_p_relevant:
        check_calibrated(output.metadata, path, calibration)
    _prepare(source, destination, config, output)
    with atomic_output(destination[0], f"{destination[1]}/{SKIPPED_FILE}") as stream:
        exported = Exported(Skipped(stream))
        context = ExportContext(config, exported.skipped, output.metadata, texts, qrels or {}, exported.label_sources)
        export_format = export_format_class(config.to)(context)
        rows = _Rows(filesystem, config, exported, set() if not output.finished else None, calibration)
        files = [("rankings", output.data_files)] if config.is_single_file else _by_name(output.data_files)
        for name, members in files:
            _write(export_format.files(name), rows.batches(members), destination, exported)
    with atomic_output(destination[0], f"{destination[1]}/{SUCCESS}"):
        pass
    return exported


def _write(
    files: Sequence[ExportFile],
    batches: Iterable[pa.RecordBatch],
    destination: tuple[pafs.FileSystem, str],
    exported: Exported,
) -> None:
    """Write the batches to each of the files."""
    with ExitStack() as stack:
        writers = []
        for file in files:
            file_path = f"{destination[1]}/{file.path}"
            stream = stack.enter_context(atomic_output(destination[0], file_path))
            writers.append(stack.enter_context(file.open(stream)))
            exported.files.append(file_path)
        for batch in batches:
            skipped = exported.skipped.queries
            exported.records += sum(write(batch) for write in writers)
            exported.queries += len(batch) - (exported.skipped.queries - skipped)


@dataclass
class _Rows:
    """Reads the rows to export. `seen` holds the query ids so far, None if the output holds each query once."""

    filesystem: pafs.FileSystem
    config: ExportConfig
    exported: Exported
    seen: set[str] | None
    calibration: Calibration | None

    def batches(self, data_files: Iterable[str]) -> Iterator[pa.RecordBatch]:
        for data_file in data_files:
            optional = ["query", *self.config.columns, *(["windows"] if self.config.training.reasoning else [])]
            for batch in read_batches(self.filesystem, data_file, ["query_id", "status", "ranking"], optional):
                query_ids = batch["query_id"].cast(pa.string()).to_pylist()
                lengths = pc.fill_null(pc.list_value_length(batch["ranking"]), 0).to_pylist()
                rows = zip(query_ids, batch["status"].to_pylist(), lengths, strict=True)
                yield self._calibrated(batch.filter(pa.array([self._is_exported(*row) for row in rows], pa.bool_())))

    def _calibrated(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if self.calibration is None and self.config.min_p_relevant is None:
            return batch
        calibrated = with_probabilities(batch, self.calibration, self.config.min_p_relevant)
        before, after = (len(each["ranking"].flatten()) for each in (batch, calibrated))
        self.exported.below_cutoff += before - after
        return calibrated

    def _is_exported(self, query_id: str, status: str, ranked: int) -> bool:
        if status not in self.config.exported_statuses:
            self.exported.skipped.add("status", query_id, status=status)
        elif not ranked:
            self.exported.skipped.add("no ranking", query_id)
        elif self.seen is not None and query_id in self.seen:
            self.exported.skipped.add("query twice", query_id)
        else:
            if self.seen is not None:
                self.seen.add(query_id)
            return True
        return False


def _by_name(data_files: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    for path in data_files:
        yield PurePosixPath(path).name.removesuffix(".parquet"), [path]


def _check_columns(filesystem: pafs.FileSystem, output: Output, config: ExportConfig) -> None:
    """Raise InputError for a column that the output does not have, unless it is a default column."""
    found = read_column_names(filesystem, output.data_files[0]) if output.data_files else []
    missing = set(config.columns) - set(found) - set(ExportConfig.model_fields["columns"].default)
    if missing and found:
        raise InputError(f"the output has no column {', '.join(sorted(missing))}; it has {', '.join(found)}")


def _prepare(
    source: tuple[pafs.FileSystem, str],
    destination: tuple[pafs.FileSystem, str],
    config: ExportConfig,
    output: Output,
) -> None:
    filesystem, folder = destination
    inner, outer = sorted((PurePosixPath(source[1]), PurePosixPath(folder)), key=lambda path: -len(path.parts))
    if source[0].equals(filesystem) and inner.is_relative_to(outer):
        raise OutputError(f"destination {folder} and output {source[1]} overlap; choose another destination")
    found = {file.base_name for file in filesystem.get_file_info(pafs.FileSelector(folder, allow_not_found=True))}
    if found and not config.overwrite:
        raise OutputError(f"{folder} is not empty; choose another destination, or replace an export with --overwrite")
    if found and MARKER not in found:
        raise OutputError(f"{folder} holds files that no export wrote and --overwrite does not delete; empty it first")
    if found:
        filesystem.delete_dir_contents(folder)
    with atomic_output(filesystem, f"{folder}/{MARKER}") as stream:
        content = {"config": config.model_dump(mode="json"), "finished": output.finished, "metadata": output.metadata}
        stream.write(json.dumps(content, indent=1).encode())
