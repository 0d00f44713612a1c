"""From settings and a bundle to a combiner: which columns, weights, rungs, strategy."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from combiner.calibration import Calibrator
from combiner.core import Combiner
from combiner.decision import Decider, DecisionConfig, Recall
from combiner.encoding import Names, ScoreEncoder
from combiner.fallback import Ladder
from combiner.health import HealthConfig
from combiner.intake import Member
from combiner.join import JoinConfig
from combiner.quorum import MONOTONE, CertainLabel, Quorum, ShareQuorum
from combiner.strategies.majority_vote import MajorityVote
from combiner.strategies.median import Median
from combiner.strategies.protocol import Strategy
from combiner.strategies.stacking import StackedLogistic
from combiner.strategies.weighted_mean import WeightedMean
from registry.manifest import Manifest
from streams.errors import ConfigurationError
from streams.instants import NS_PER_MS
from streams.settings import Settings

MS_PER_S = 1000


def members_of(settings: Settings, manifest: Manifest) -> list[Member]:
    """The columns of the join, in the order of the configuration.

    Raises:
        ConfigurationError: a model is neither in the bundle, nor a callable, nor external.
    """
    versions = {model.name: model.version for model in manifest.models}
    members = []
    for place, model in enumerate(settings.models):
        own = model.callable or model.external or model.remote
        if model.name not in versions and not own:
            raise ConfigurationError(
                f"models.{place}.name",
                f"no model `{model.name}` in the bundle; expected one of {', '.join(versions)}, "
                "or a `callable`, `remote`, or `external = true`",
            )
        version = model.stated_version or versions.get(model.name, "")
        members.append(
            Member(model.name, version, model.minimum, model.maximum, reserve=model.reserve)
        )
    return members


def strategy_of(settings: Settings, manifest: Manifest, weights: NDArray[np.float64]) -> Strategy:
    """The configured strategy.

    Raises:
        ConfigurationError: stacking was trained with other members than those configured.
    """
    combiner = settings.combiner
    match combiner.strategy:
        case "weighted_mean":
            return WeightedMean(weights, combiner.threshold)
        case "median":
            return Median(combiner.threshold)
        case "majority_vote":
            return MajorityVote(weights, combiner.threshold)
        case "stacking":
            columns = _stacked_columns(settings, manifest)
            return StackedLogistic(manifest.stacking, columns, combiner.threshold)


def _stacked_columns(settings: Settings, manifest: Manifest) -> list[int]:
    models = [model.name for model in settings.models]
    stacked = manifest.stacking.members
    lacking = [name for name in stacked if name not in models]
    if lacking:
        raise ConfigurationError(
            "combiner.strategy",
            f"stacking needs the model `{lacking[0]}`; expected it among [[models]], "
            "or another strategy",
        )
    strange = [m.name for m in settings.models if m.name not in stacked and not m.reserve]
    if strange:
        raise ConfigurationError(
            "combiner.strategy",
            f"stacking was not trained with the model `{strange[0]}`; expected another strategy, "
            "or `reserve = true` for it",
        )
    return [models.index(name) for name in stacked]


def quorum_of(
    settings: Settings, members: Sequence[Member], strategy: Strategy, calibrator: Calibrator
) -> Quorum | None:
    """Who need not be waited for; None waits for all.

    Raises:
        ConfigurationError: it cannot be told with this strategy, or does not fit the ladder.
    """
    tuning, fallback = settings.combiner, settings.fallback
    if tuning.quorum == "all":
        return None
    if "partial" not in fallback.ladder:
        raise ConfigurationError(
            "combiner.quorum",
            f"`{tuning.quorum}` without the rung `partial`; expected it in fallback.ladder",
        )
    weights = np.array([model.weight for model in settings.models])
    counted = ~np.array([member.reserve for member in members], dtype=np.bool_)
    if tuning.quorum == "share":
        return ShareQuorum(weights, tuning.quorum_share, counted, fallback.minimum_members)
    if strategy.name not in MONOTONE:
        raise ConfigurationError(
            "combiner.quorum",
            f"whether a label is certain cannot be told with the strategy `{strategy.name}`; "
            f'expected one of {", ".join(sorted(MONOTONE))}, or the quorum "share"',
        )
    ends = calibrator.apply(
        np.array(
            [
                [-np.inf if member.minimum is None else member.minimum for member in members],
                [np.inf if member.maximum is None else member.maximum for member in members],
            ]
        )
    )[:, counted]
    if not np.isfinite(ends).all():
        endless = [m.name for m in members if m.minimum is None or m.maximum is None]
        raise ConfigurationError(
            "combiner.quorum",
            f"the model `{endless[0]}` may answer anything, so no label is certain; expected "
            "`minimum` and `maximum` for it",
        )
    return CertainLabel(
        strategy, calibrator, counted, ends.min(), ends.max(), fallback.minimum_members
    )


def combiner_of(
    settings: Settings, manifest: Manifest, ensemble: str, recall: Recall, now_ns: int
) -> Combiner:
    """The whole combiner.

    Args:
        settings: the configuration.
        manifest: the bundle's.
        ensemble: `name@version`.
        recall: see `combiner.decision.Decider`.
        now_ns: monotonic time.

    Raises:
        ConfigurationError: settings and bundle do not fit together.
    """
    members = members_of(settings, manifest)
    names = [member.name for member in members]
    reserves = np.array([member.reserve for member in members], dtype=np.bool_)
    weights = np.array([model.weight for model in settings.models])
    fallback, tuning, health = settings.fallback, settings.combiner, settings.health
    prior = manifest.data.positive_share if fallback.prior is None else fallback.prior
    calibrator = Calibrator(names, manifest.calibrations)
    strategy = strategy_of(settings, manifest, weights)
    decider = Decider(
        DecisionConfig(
            weights,
            prior,
            tuning.threshold,
            fallback.cached_max_age_s * MS_PER_S,
            tuning.explain,
        ),
        Ladder(reserves, frozenset(fallback.ladder), fallback.minimum_members),
        calibrator,
        strategy,
        recall,
    )
    return Combiner(
        members,
        JoinConfig(
            members=len(members),
            deadline_ns=tuning.deadline_ms * NS_PER_MS,
            stall_ns=tuning.stall_ms * NS_PER_MS,
            catch_up_limit_ns=max(tuning.catch_up_limit_ms, tuning.deadline_ms) * NS_PER_MS,
            patient_until_ns=now_ns + tuning.start_up_ms * NS_PER_MS,
            in_order=tuning.order == "partition",
            quorum=quorum_of(settings, members, strategy, calibrator),
        ),
        HealthConfig(
            health.window_ms * NS_PER_MS,
            health.degraded_share,
            health.failed_share,
            health.minimum_events,
            health.recovered_events,
        ),
        decider,
        ScoreEncoder(Names(ensemble, names), reserves, explain=tuning.explain),
        ensemble,
        now_ns,
    )
