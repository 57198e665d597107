"""Whether the schema of an input file can be read: columns, types, and names that the output needs."""

from typing import Literal, TypeAlias

import pyarrow as pa

from corpus_reranker.errors import InputError
from corpus_reranker.io.schemas import CANDIDATES, LONG_INPUT, NESTED_INPUT, PROBLEM, RESULT

Form: TypeAlias = Literal["nested", "long"]

OPTIONAL_COLUMNS = ("title", "rank")


def check_schema(schema: pa.Schema, path: str) -> Form:
    """The form of an input with this schema. Raises InputError that names `path`, the column and the fix."""
    form: Form = "nested" if CANDIDATES in schema.names or "doc_id" not in schema.names else "long"
    expected = NESTED_INPUT if form == "nested" else LONG_INPUT
    for name in (name for name in schema.names if schema.names.count(name) > 1):
        raise InputError(f"{path} has two columns named {name!r}; rename one")
    for field in expected:
        if field.name in schema.names:
            _check_type(schema.field(field.name).type, field.type, field.name, path)
        elif field.name not in OPTIONAL_COLUMNS:
            columns = ", ".join(schema.names)
            raise InputError(
                f"{path} has no column {field.name!r}; it has: {columns}. The {form} form needs {_columns(expected)}"
            )
    for field in schema:
        if field.name not in expected.names:
            _check_passed_through(field, path)
    return form


def check_same_schema(schema: pa.Schema, path: str, first: pa.Schema, first_path: str) -> None:
    """Raise InputError if two files of one input differ in a column."""
    types, first_types = ({field.name: field.type for field in each} for each in (schema, first))
    for name in [*first_types, *types]:
        if types.get(name) != first_types.get(name):
            raise InputError(
                f"the files of the input differ: column {name!r} is {types.get(name, 'absent')} in {path} "
                f"and {first_types.get(name, 'absent')} in {first_path}; write them with one schema"
            )


def _check_type(found: pa.DataType, expected: pa.DataType, name: str, path: str) -> None:
    if pa.types.is_list(expected):
        if not (pa.types.is_list(found) or pa.types.is_large_list(found)) or not pa.types.is_struct(found.value_type):
            raise InputError(f"{path}: column {name!r} is {found}; it must be {_columns(NESTED_INPUT)}")
        for field in expected.value_type:
            position = found.value_type.get_field_index(field.name)
            if position >= 0:
                _check_type(found.value_type.field(position).type, field.type, f"{name}.{field.name}", path)
            elif field.name not in OPTIONAL_COLUMNS:
                raise InputError(f"{path}: the structs of {name!r} have no field {field.name!r}; they are {found}")
    elif pa.types.is_string(expected):
        if not (pa.types.is_string(found) or pa.types.is_large_string(found)):
            raise InputError(f"{path}: {name!r} is {found}; cast it to string")
    elif not (pa.types.is_integer(found) or pa.types.is_floating(found)):
        raise InputError(f"{path}: {name!r} is {found}; cast it to {expected}")


def _check_passed_through(field: pa.Field, path: str) -> None:
    if field.name in (*RESULT.names, PROBLEM):
        raise InputError(f"{path}: column {field.name!r} has the name of an output column; rename it")
    if unsupported := _unsupported_type(field.type):
        raise InputError(
            f"{path}: column {field.name!r} is {unsupported}, which cannot pass through unchanged; cast or drop it"
        )


def _unsupported_type(type_: pa.DataType) -> pa.DataType | None:
    """`type_`, or a type in it, that does not survive Python rows and Arrow's type inference; None if all do."""
    if (
        pa.types.is_map(type_)
        or pa.types.is_union(type_)
        or pa.types.is_uint64(type_)
        or pa.types.is_run_end_encoded(type_)
        or isinstance(type_, pa.BaseExtensionType)
    ):
        return type_
    children = [type_.field(position).type for position in range(type_.num_fields)]
    return next((found for child in children if (found := _unsupported_type(child))), None)


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name}: {field.type}" for field in schema)
