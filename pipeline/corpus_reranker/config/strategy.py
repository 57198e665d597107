"""Config section `strategy`: the name of a strategy and its settings."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import PlainSerializer, PlainValidator, TypeAdapter
from pydantic_core import PydanticCustomError

from corpus_reranker.plugins import registered_name
from corpus_reranker.ranking.strategies.base import Strategy, can_continue
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


def budget_refusal(strategy: Any) -> str | None:
    """Why a run with a budget cannot continue the rankings of a strategy, and the fix. None if it can."""
    name = strategy_options(strategy)["name"]
    refusal = f"strategy {name} cannot continue with more windows, which budget needs"
    if not can_continue(strategy):
        names = " or ".join(each for each in STRATEGIES if can_continue(strategy_class(each)))
        return f"{refusal}; set strategy.name to {names}"
    try:
        strategy.with_max_windows(1)
    except ValueError as error:
        return f"{refusal}: {error}"
    return None


StrategySetting: TypeAlias = Annotated[Any, PlainValidator(build_strategy), PlainSerializer(strategy_options)]
