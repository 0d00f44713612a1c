"""`[cascade]`: which models are asked only where the others are uncertain, and what fits it."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from streams.kinds import Name, Share


class CascadeSettings(BaseModel):
    """`[cascade]`: without heavy models there is none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    heavy: tuple[Name, ...] = ()
    low: Share = 0.25
    high: Share = 0.75
    max_dispersion: Annotated[float, Field(gt=0.0)] | None = None

    @model_validator(mode="after")
    def _whole(self) -> "CascadeSettings":
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}; expected it below")
        fields = type(self).model_fields.items()
        if not self.heavy and any(getattr(self, name) != field.default for name, field in fields):
            raise ValueError("no `heavy` models; expected some, or no such table")
        return self

    @property
    def on(self) -> bool:
        """Whether there is a cascade."""
        return bool(self.heavy)

    def read_by(
        self, models: Sequence[str], inputs: tuple[str, ...], escalations: str
    ) -> tuple[str, ...]:
        """The topics for a worker with these models, which are all heavy or none of them is."""
        return (escalations,) if models[0] in self.heavy else inputs

    def check_models(
        self, reserves: Mapping[str, bool], hosted: Mapping[str, Sequence[str]]
    ) -> None:
        """Whether models and workers fit.

        Args:
            reserves: model → whether it is a reserve.
            hosted: worker → its models.

        Raises:
            ValueError: they do not.
        """
        for name in self.heavy:
            if name not in reserves:
                known = ", ".join(reserves)
                raise ValueError(f"cascade.heavy: no model `{name}`; expected some of {known}")
            if reserves[name]:
                raise ValueError(
                    f"cascade.heavy: `{name}` is a reserve, and reserves are asked about every "
                    "event; expected members"
                )
        if all(name in self.heavy for name, reserve in reserves.items() if not reserve):
            raise ValueError(
                "cascade.heavy: all members are heavy; expected at least one that is asked about "
                "every event"
            )
        for worker, models in hosted.items():
            heavy = [name for name in models if name in self.heavy]
            cheap = [name for name in models if name not in self.heavy]
            if heavy and cheap:
                raise ValueError(
                    f"workers.{worker}.models: `{heavy[0]}` is heavy in the cascade and "
                    f"`{cheap[0]}` is not, and they read different topics; expected two workers"
                )

    def check_others(self, *, quorum: str, selection: str, strategy: str, promise: bool) -> None:
        """Whether what else is configured knows what to do without the heavy models.

        Raises:
            ValueError: it does not.
        """
        if quorum != "all":
            raise ValueError(
                f'combiner.quorum: "{quorum}" together with a cascade, which says itself who is '
                'waited for; expected "all"'
            )
        if selection != "all":
            raise ValueError(
                f'selection.method: "{selection}" together with a cascade, which asks by the score '
                'of all members that answered; expected "all"'
            )
        if strategy == "stacking_with_features":
            raise ValueError(
                f"combiner.strategy: `{strategy}` together with a cascade, which asks by the "
                "answers alone; expected another one"
            )
        if promise:
            raise ValueError(
                "certainty.promise: true together with a cascade; what is promised holds for "
                "members that are missing by chance, and not for their score; expected false"
            )
