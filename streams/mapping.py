"""From the configured mapping and a bundle's schema to the decoder both ends share."""

import re

import msgspec

from streams.errors import ConfigurationError
from streams.events import EventDecoder
from streams.features import Feature, FeatureSchema
from streams.settings import EventSettings

_DOT = re.compile(r"(?<!\\)\.")


def path_of(text: str) -> tuple[str, ...]:
    r"""The keys of a dotted path; a dot that belongs to a key is written `\.`.

    >>> path_of("payload.amount"), path_of(r"a\.b"), path_of("")
    (('payload', 'amount'), ('a.b',), ())
    """
    return tuple(part.replace("\\.", ".") for part in _DOT.split(text)) if text else ()


def mapped_schema(schema: FeatureSchema, event: EventSettings) -> FeatureSchema:
    """The bundle's schema with the configured paths and requirements.

    Raises:
        ConfigurationError: a mapping names a feature that the bundle does not have.
    """
    unknown = sorted(set(event.features) - set(schema.names))
    if unknown:
        raise ConfigurationError(
            f"event.features.{unknown[0]}",
            f"no such feature in the bundle; expected one of {', '.join(schema.names)}",
        )
    return FeatureSchema(tuple(_mapped(feature, event) for feature in schema.features))


def _mapped(feature: Feature, event: EventSettings) -> Feature:
    mapping = event.features.get(feature.name)
    if mapping is None:
        return feature
    path = feature.path if mapping.path is None else path_of(mapping.path)
    required = feature.required if mapping.required is None else mapping.required
    return msgspec.structs.replace(feature, path=path, required=required)


def decoder_of(
    schema: FeatureSchema, event: EventSettings, *, features: bool = True
) -> EventDecoder:
    """The decoder of a bundle's events, as configured; without `features` it gives no matrix."""
    return EventDecoder(
        mapped_schema(schema, event),
        path_of(event.id),
        path_of(event.entity),
        path_of(event.time),
        features=features,
    )
