"""Properties of Arrow types: which are text, numbers or lists, and which type can hold the values of several types."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_MAX_EXACT_INT_BITS = 53
"""A double cannot represent all integers with more bits."""

_MAX_EXACT_DIGITS = 15
"""A double cannot represent all decimals with more digits."""


MAX_LEVELS = 32
"""Maximum nesting of a type. pyarrow reads Parquet files of at most 100 levels, and a list takes two of them."""


def num_levels(type_: pa.DataType) -> int:
    """The number of levels of a nested type. Does not recurse: a file can have thousands of levels."""
    levels, types = 0, [type_]
    while types:
        types = [each.field(position).type for each in types for position in range(each.num_fields)]
        levels += 1
    return levels


def is_list(type_: pa.DataType) -> bool:
    """Whether values are lists of any of Arrow's list types."""
    return bool(
        pa.types.is_list(type_)
        or pa.types.is_large_list(type_)
        or pa.types.is_fixed_size_list(type_)
        or pa.types.is_list_view(type_)
        or pa.types.is_large_list_view(type_)
    )


def is_text(type_: pa.DataType) -> bool:
    """Whether values are strings, or all null."""
    value_type = type_.value_type if pa.types.is_dictionary(type_) else type_
    return bool(
        pa.types.is_string(value_type)
        or pa.types.is_large_string(value_type)
        or pa.types.is_string_view(value_type)
        or pa.types.is_null(value_type)
    )


def is_bytes(type_: pa.DataType) -> bool:
    """Whether values are bytes. Some writers store text as bytes (Impala, old versions of Hive)."""
    value_type = type_.value_type if pa.types.is_dictionary(type_) else type_
    return bool(
        pa.types.is_binary(value_type) or pa.types.is_large_binary(value_type) or pa.types.is_binary_view(value_type)
    )


def is_number(type_: pa.DataType) -> bool:
    """Whether values are numbers that a double can hold, or all null."""
    decimal = pa.types.is_decimal(type_) and type_.precision <= _MAX_EXACT_DIGITS
    return bool(pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_null(type_) or decimal)


def common_type(types: list[pa.DataType]) -> pa.DataType | None:
    """The type that holds all values of these types; None if there is none."""
    if len(types) == 1:
        return types[0]
    if all(is_text(type_) for type_ in types):
        return pa.string()
    try:
        schemas = [pa.schema([pa.field("column", type_)]) for type_ in types]
        common = pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except pa.ArrowException:
        return None
    return None if any(_loses(type_, common) for type_ in types) else common


def is_exact_as_double(value: int | None) -> bool:
    """Whether a double represents this integer, and every integer nearer to zero, exactly."""
    return value is None or abs(value) <= 2**_MAX_EXACT_INT_BITS


def are_exact_as_doubles(values: Any) -> bool:
    """Whether doubles represent all integers of an array exactly."""
    return all(is_exact_as_double(value) for value in pc.min_max(values).as_py().values())


def struct_field(structs: pa.Array, name: str) -> pa.Array:
    """A field of structs, null where the struct is null; all null if the structs have no such field."""
    known = structs.type.get_field_index(name) >= 0
    return pc.struct_field(structs, name) if known else pa.nulls(len(structs))


def _loses(type_: pa.DataType, common: pa.DataType) -> bool:
    """Whether a value of `type_` can change in `common`: a large integer or a long decimal may change as a double."""
    if pa.types.is_integer(type_) and pa.types.is_floating(common):
        return bool(type_.bit_width > _MAX_EXACT_INT_BITS)
    if pa.types.is_decimal(type_) and pa.types.is_floating(common):
        return bool(type_.precision > _MAX_EXACT_DIGITS)
    if is_list(type_) and is_list(common):
        return _loses(type_.value_type, common.value_type)
    if pa.types.is_struct(type_) and pa.types.is_struct(common):
        return any(_loses(field.type, common.field(field.name).type) for field in type_)
    return False


def unsupported_type(type_: pa.DataType) -> pa.DataType | None:
    """`type_` or a type inside it that Python rows and Arrow's type inference would change; None if there is none."""
    if (
        pa.types.is_map(type_)
        or pa.types.is_union(type_)
        or pa.types.is_uint64(type_)
        or pa.types.is_run_end_encoded(type_)
        or isinstance(type_, pa.BaseExtensionType)
    ):
        return type_
    children = [type_.field(position).type for position in range(type_.num_fields)]
    return next((found for child in children if (found := unsupported_type(child))), None)
