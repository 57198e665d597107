"""Determines the form of an input, and the one schema with which the rows of all its files are read.

A type is accepted if its values keep their meaning in the type that the reranker reads, so that files of pandas,
polars, DuckDB, Spark and Hugging Face datasets need no conversion. All problems of all files are reported together.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Literal, TypeAlias

import pyarrow as pa

from corpus_reranker.errors import InputError
from corpus_reranker.formatting import counted
from corpus_reranker.io.column_names import suggest_column
from corpus_reranker.io.schemas import CANDIDATE, CANDIDATES, LONG_INPUT, NESTED_INPUT, PROBLEM, RESULT
from corpus_reranker.io.settings import RowSettings
from corpus_reranker.io.sources.arrow_types import (
    MAX_LEVELS,
    common_type,
    is_bytes,
    is_list,
    is_number,
    is_text,
    num_levels,
    unsupported_type,
)

Form: TypeAlias = Literal["nested", "long"]

IsExact: TypeAlias = Callable[[str, str], bool]
"""Whether a double holds every integer of a column. The arguments are the path of a file and the column."""

OPTIONAL_COLUMNS = ("title", "rank")

_REQUIRED_FIELDS = ("doc_id", "text")
"""Required fields of a candidate."""

_IDS = ("query_id", "doc_id")

_PANDAS_INDEX = re.compile(r"(__index_level_\d+__)?")
"""Columns in which pandas stores an unnamed index: in Parquet (pandas/io/parquet.py), and in CSV."""

_SHOWN_FILES = 3


def input_schema(schemas: Mapping[str, pa.Schema], settings: RowSettings, is_exact: IsExact) -> tuple[Form, pa.Schema]:
    """The form of an input, and the schema with which its rows are read.

    Args:
        schemas: Path of each file -> its schema.
        settings: Only `columns` and `cast_ids` are used.
        is_exact: Called for a column that is int64 in some files and double in others.

    Raises:
        InputError: lists every problem with its file, column, the expected type, and the fix.
    """
    _check_levels(schemas)
    problems: dict[str, list[str]] = {}
    for problem in _unknown_names(schemas.values(), settings.columns):
        problems[problem] = []
    schemas = {path: _renamed(schema, settings.columns) for path, schema in schemas.items()}
    first = next(iter(schemas.values()))
    form: Form = "nested" if CANDIDATES in first.names or not _has_candidate_columns(first) else "long"
    expected = NESTED_INPUT if form == "nested" else LONG_INPUT
    for path, schema in schemas.items():
        for problem in _file_problems(schema, form, expected, settings):
            problems.setdefault(problem, []).append(path)
    if form == "long":
        _check_order_columns(schemas, problems)
    passed_through = _passed_through(schemas, expected, is_exact, problems)
    if problems:
        raise InputError(_message(problems))
    present = {name for schema in schemas.values() for name in schema.names}
    own = [field.with_nullable(True) for field in expected if field.name in present]
    if form == "nested":
        own = [field.with_type(_candidates_type(schemas)) if field.name == CANDIDATES else field for field in own]
    return form, pa.schema([*own, *passed_through])


def _candidates_type(schemas: Mapping[str, pa.Schema]) -> pa.DataType:
    """The type of the candidates, without the optional fields that no file has."""
    types = [schema.field(CANDIDATES).type for schema in schemas.values()]
    structs = [type_.value_type for type_ in types if is_list(type_) and pa.types.is_struct(type_.value_type)]
    names = {field.name for struct in structs for field in struct} | set(_REQUIRED_FIELDS)
    return pa.list_(pa.struct([field for field in CANDIDATE if field.name in names]))


def _check_levels(schemas: Mapping[str, pa.Schema]) -> None:
    """Raise InputError for a type that is nested too deeply for the recursive checks and for Parquet."""
    for path, schema in schemas.items():
        for field in schema:
            if (levels := num_levels(field.type)) > MAX_LEVELS:
                raise InputError(
                    f"{path}: column {field.name!r} is nested too deeply, {levels} levels of at most {MAX_LEVELS}; drop"
                    " it, or write it as text"
                )


def _unknown_names(schemas: Collection[pa.Schema], columns: Mapping[str, str]) -> Iterator[str]:
    """A problem for each name in `input.columns` that no file has as a column or as a field of the candidates."""
    names = {name for schema in schemas for name in schema.names}
    for type_ in (schema.field(position).type for schema in schemas for position in range(len(schema))):
        if is_list(type_) and pa.types.is_struct(type_.value_type):
            names |= {field.name for field in type_.value_type}
    for name, theirs in columns.items():
        if theirs not in names:
            yield f"input.columns.{name} names {theirs!r}, which no file has; the names are {', '.join(sorted(names))}"


def _renamed(schema: pa.Schema, columns: Mapping[str, str]) -> pa.Schema:
    """`schema` with the names that the reranker reads, also in the structs of the candidates, without pandas' index.

    `columns` maps names of the reranker to names in the files (`input.columns`).
    """
    nested = columns.get(CANDIDATES, CANDIDATES) in schema.names
    ours = {theirs: name for name, theirs in row_columns(columns, nested=nested).items()}
    in_structs = {theirs: name for name, theirs in columns.items() if name in CANDIDATE.names}
    fields = [field.with_name(ours.get(field.name, field.name)) for field in schema if not is_pandas_index(field.name)]
    return pa.schema(
        [
            field.with_type(_renamed_structs(field.type, in_structs)) if field.name == CANDIDATES else field
            for field in fields
        ]
    )


def row_columns(columns: Mapping[str, str], *, nested: bool) -> Mapping[str, str]:
    """The part of `input.columns` that names columns; in nested form, the rest names fields of the candidates."""
    return {name: theirs for name, theirs in columns.items() if not nested or name in NESTED_INPUT.names}


def is_pandas_index(name: str) -> bool:
    return _PANDAS_INDEX.fullmatch(name) is not None


def _renamed_structs(type_: pa.DataType, ours: Mapping[str, str]) -> pa.DataType:
    if not is_list(type_) or not pa.types.is_struct(type_.value_type):
        return type_
    return pa.list_(pa.struct([field.with_name(ours.get(field.name, field.name)) for field in type_.value_type]))


def _has_candidate_columns(schema: pa.Schema) -> bool:
    names = {"doc_id", "text", "score", "rank", "docno", "docid", "pid"}
    return bool(names & set(schema.names))


def _file_problems(schema: pa.Schema, form: Form, expected: pa.Schema, settings: RowSettings) -> Iterator[str]:
    for name in sorted({name for name in schema.names if schema.names.count(name) > 1}):
        theirs = settings.columns.get(name)
        renamed = f", one of them by input.columns.{name}={theirs}" if theirs else ""
        yield f"two columns named {name!r}{renamed}; rename or drop one"
    for field in expected:
        found = [each.type for each in schema if each.name == field.name]
        if found:
            yield from _type_problems(field.name, found[0], field.type, settings)
        elif field.name not in (*OPTIONAL_COLUMNS, "score"):
            yield _missing_column(field, schema, form, settings)
    if form == "long" and not {"score", "rank"} & set(schema.names):
        fix = f"{_rename_fix('score', schema.names)}; it has {_original_names(schema, settings)}"
        yield f"no column 'score' or 'rank', one of which must give the first-stage order; {fix}"
    for field in schema:
        if field.name not in expected.names:
            yield from _passed_through_problems(field)


def _missing_column(field: pa.Field, schema: pa.Schema, form: Form, settings: RowSettings) -> str:
    missing = f"no column {field.name!r}, expected {_named_type(field.name, field.type)} ({form} form)"
    names = _original_names(schema, settings)
    if field.name in settings.columns:
        return f"{missing}; input.columns.{field.name} is {settings.columns[field.name]!r}; it has {names}"
    return f"{missing}; {_rename_fix(field.name, schema.names)}; it has {names}"


def _original_names(schema: pa.Schema, settings: RowSettings) -> str:
    """The column names of the file, without the renaming by `input.columns`."""
    return ", ".join(settings.columns.get(name, name) for name in schema.names)


def _rename_fix(name: str, names: list[str]) -> str:
    free = [each for each in names if each not in (*NESTED_INPUT.names, *LONG_INPUT.names)]
    return f"name it with input.columns={{{name}: {suggest_column(name, free)}}}"


def _type_problems(name: str, found: pa.DataType, expected: pa.DataType, settings: RowSettings) -> Iterator[str]:
    label, leaf = f"column {name!r} is {found}, expected {_named_type(name, expected)}", name.rpartition(".")[2]
    if pa.types.is_list(expected):
        yield from _list_problems(label, found, expected, settings)
    elif pa.types.is_string(expected):
        if leaf in _IDS and pa.types.is_integer(found):
            if not settings.cast_ids:
                yield f"{label}; set input.cast_ids=true to read integers as ids"
        elif pa.types.is_fixed_size_binary(found) or isinstance(found, pa.BaseExtensionType):
            yield f"{label}; write it as text"  # pandas' cast of bytes to str is b'...'
        elif not (is_text(found) or is_bytes(found)):
            was_integer = leaf in _IDS and pa.types.is_floating(found)  # pandas turns integers with gaps into floats
            yield f"{label}; {_cast_fix(name, 'Int64', 'str') if was_integer else _cast_fix(name, 'str')}"
    elif not is_number(found):
        yield f"{label}; {_cast_fix(name, 'float')}"


def _list_problems(label: str, found: pa.DataType, expected: pa.DataType, settings: RowSettings) -> Iterator[str]:
    if pa.types.is_null(found) or (is_list(found) and pa.types.is_null(found.value_type)):
        return  # all lists are null or empty: failed rows
    if not is_list(found) or not pa.types.is_struct(found.value_type):
        hint = "decode the JSON before the file is written" if is_text(found) else "write a list of structs"
        yield f"{label}; {hint}"
        return
    names = [field.name for field in found.value_type]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"two fields named {name!r} in the structs of 'candidates'; rename one"
    for field in expected.value_type:
        if names.count(field.name) == 1:
            position = found.value_type.get_field_index(field.name)
            yield from _type_problems(
                f"{CANDIDATES}.{field.name}", found.value_type.field(position).type, field.type, settings
            )
        elif field.name in _REQUIRED_FIELDS and field.name not in names:
            missing = f"no field 'candidates.{field.name}', expected {field.type}"
            yield f"{missing}; {_rename_fix(field.name, names)}; the structs have {', '.join(names) or 'no field'}"


def _cast_fix(name: str, *pandas_types: str) -> str:
    if "." in name:
        return "cast it before the file is written"
    return f"cast it, in pandas with df[{name!r}]" + "".join(f".astype({each!r})" for each in pandas_types)


def _named_type(name: str, type_: pa.DataType) -> str:
    return "list of structs with doc_id, text, and optionally title and score" if name == CANDIDATES else str(type_)


def _check_order_columns(schemas: Mapping[str, pa.Schema], problems: dict[str, list[str]]) -> None:
    """Check that all files or none have the column `rank`, which decides the order if it exists."""
    ranked = [path for path, schema in schemas.items() if "rank" in schema.names]
    if ranked and len(ranked) < len(schemas):
        problem = f"no column 'rank', which {ranked[0]} has; add it to all files, or drop it"
        problems[problem] = [path for path in schemas if path not in ranked]


def _passed_through(
    schemas: Mapping[str, pa.Schema], expected: pa.Schema, is_exact: IsExact, problems: dict[str, list[str]]
) -> list[pa.Field]:
    """The other columns of all files, each with a type that can hold the values of every file."""
    paths_of_type: dict[str, dict[pa.DataType, list[str]]] = {}
    for path, schema in schemas.items():
        for field in schema:
            if field.name not in expected.names:
                paths_of_type.setdefault(field.name, {}).setdefault(field.type, []).append(path)
    fields = []
    for name, paths in paths_of_type.items():
        type_ = common_type(list(paths)) or _exact_double(name, paths, is_exact)
        if type_ is None:
            found = " and ".join(f"{each} in {first}" for each, (first, *_) in list(paths.items())[:_SHOWN_FILES])
            are_integers = all(pa.types.is_integer(each) or pa.types.is_floating(each) for each in paths)
            reason = ", and a double cannot hold all of its integers" if are_integers else ""
            problems[f"column {name!r} is {found}{reason}; write it with one type"] = []
        else:
            fields.append(pa.field(name, type_))
    return fields


def _exact_double(name: str, paths_of_type: Mapping[pa.DataType, list[str]], is_exact: IsExact) -> pa.DataType | None:
    """Double, if it represents the values of all files: pandas turns integers with gaps into floats. Otherwise None."""
    if not all(pa.types.is_integer(type_) or pa.types.is_floating(type_) for type_ in paths_of_type):
        return None
    with_integers = (path for type_, paths in paths_of_type.items() if pa.types.is_integer(type_) for path in paths)
    return pa.float64() if all(is_exact(path, name) for path in with_integers) else None


def _passed_through_problems(field: pa.Field) -> Iterator[str]:
    if field.name in (*RESULT.names, PROBLEM):
        yield f"column {field.name!r} has the name of an output column; rename it"
    if unsupported := unsupported_type(field.type):
        yield f"column {field.name!r} is {unsupported}, which cannot pass through unchanged; cast or drop it"


def _message(problems: Mapping[str, list[str]]) -> str:
    """One line for a single problem; otherwise a heading, and one line for each problem."""
    lines = [_line(problem, paths) for problem, paths in problems.items()]
    if len(lines) == 1:
        return lines[0]
    return "\n  ".join([f"the input has {len(lines)} problems:", *lines])


def _line(problem: str, paths: list[str]) -> str:
    if not paths:
        return problem
    others = len(paths) - 1
    more = counted(others, "other file")
    return f"{paths[0]}{f' and {more}' if others else ''}: {problem}"
