"""Kinds of values in the configuration."""

from typing import Annotated, Literal

from pydantic import Field

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,200}$")]
Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveShare = Annotated[float, Field(gt=0.0, le=1.0)]
Property = str | int | float | bool
# What must not stand in the file: where it is, instead of what it is. Who errs may have written
# the secret itself, so that it is not shown.
Elsewhere = Annotated[str, Field(pattern=r"^(env|file):.+$", json_schema_extra={"writeOnly": True})]
StrategyName = Literal[
    "stacking",
    "stacking_with_features",
    "blending",
    "weighted_mean",
    "mean",
    "median",
    "trimmed_mean",
    "geometric_mean",
    "log_odds_pooling",
    "rank_mean",
    "minimum",
    "maximum",
    "majority_vote",
    "equal_vote",
    "best_single",
    "first_to_answer",
]
