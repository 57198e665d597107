"""Converts rows of input files to the schema in which the input is read."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from corpus_reranker.io.schemas import CANDIDATES
from corpus_reranker.io.sources.arrow_types import is_bytes, is_list, struct_field
from corpus_reranker.io.sources.schema_check import row_columns


def convert_batch(batch: pa.RecordBatch, schema: pa.Schema, columns: Mapping[str, str]) -> pa.Table:
    """The rows of `batch` with the columns and types of `schema`; a column that the batch lacks is null.

    Args:
        batch: Rows of a file whose schema `schema_check.input_schema` has accepted.
        schema: The schema that it returned.
        columns: Name in `schema` -> name in the file, if the names differ (`input.columns`).
    """
    names = row_columns(columns, nested=CANDIDATES in schema.names)
    arrays = []
    for field in schema:
        position = batch.schema.get_field_index(names.get(field.name, field.name))
        array = batch.column(position) if position >= 0 else pa.nulls(batch.num_rows)
        arrays.append(convert(array, field.type, columns if field.name == CANDIDATES else {}))
    return pa.Table.from_arrays(arrays, schema=schema)


def convert(array: pa.Array, type_: pa.DataType, columns: Mapping[str, str] | None = None) -> pa.Array:
    """Convert `array` to `type_`. Struct fields are matched by name; extra fields are dropped, missing ones are null.

    Args:
        array: Values of a type that `schema_check.input_schema` accepts for `type_`.
        type_: The type to return.
        columns: Name of a struct field -> its name in `array`, if the names differ.
    """
    if array.type == type_:
        return array
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), type_)
    if (pa.types.is_list(type_) or pa.types.is_large_list(type_)) and is_list(array.type):
        return _convert_list(array, type_, columns or {})
    if pa.types.is_struct(type_) and pa.types.is_struct(array.type):
        return _convert_struct(array, type_, columns or {})
    if pa.types.is_dictionary(array.type) and not pa.types.is_dictionary(type_):
        array = array.dictionary_decode()
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), type_)
    # An integer score of more than 53 bits is rounded. `rows.check_batch` finds bytes that are not UTF-8 later.
    return array.cast(type_, safe=not (pa.types.is_floating(type_) or is_bytes(array.type)))


def _convert_list(lists: pa.Array, type_: pa.DataType, columns: Mapping[str, str]) -> pa.Array:
    values = convert(pc.list_flatten(lists), type_.value_type, columns)
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    large = pa.types.is_large_list(type_)
    kind, width = (pa.LargeListArray, pa.int64()) if large else (pa.ListArray, pa.int32())
    return kind.from_arrays(pa.array(offsets, width), values, type=type_, mask=pc.is_null(lists))


def _convert_struct(structs: pa.Array, type_: pa.DataType, columns: Mapping[str, str]) -> pa.Array:
    children = []
    for field in type_:
        child = struct_field(structs, columns.get(field.name, field.name))
        children.append(convert(child, field.type))
    return pa.StructArray.from_arrays(children, fields=list(type_), mask=pc.is_null(structs))
