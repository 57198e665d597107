"""Config section `strategy`: the name of a strategy and its settings."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import PlainSerializer, PlainValidator, TypeAdapter
from pydantic_core import PydanticCustomError

from corpus_reranker.plugins import registered_name
from corpus_reranker.ranking.strategies.base import Strategy
from corpus_reranker.ranking.strategies.registry import STRATEGIES, strategy_class
from corpus_reranker.section import check_known_keys


def build_strategy(value: Any) -> Any:
    """The strategy of a mapping with `name` and settings. Raises ValueError for an unknown name or setting."""
    if dataclasses.is_dataclass(value):
        return value
    if not isinstance(value, Mapping):
        raise PydanticCustomError("model_type", "a section, not a value")
    options = dict(value)
    name = str(options.pop("name", "sliding_window"))
    cls = strategy_class(name)
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        raise ValueError(f"strategy {name!r} is not a dataclass, whose fields are its settings; decorate the class")
    check_known_keys(options, [field.name for field in dataclasses.fields(cls)])  # type: ignore[arg-type]
    return TypeAdapter(cls).validate_python(options)


def strategy_options(strategy: Strategy) -> dict[str, Any]:
    """The mapping that `build_strategy` turns into this strategy."""
    return {"name": registered_name(type(strategy), STRATEGIES), **dataclasses.asdict(strategy)}  # type: ignore[call-overload]


StrategySetting: TypeAlias = Annotated[Any, PlainValidator(build_strategy), PlainSerializer(strategy_options)]
