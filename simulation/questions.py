"""The judges of cascades: heavy models are asked where the others were uncertain, nowhere else.

What is uncertain they work out for themselves, from the first answers in the log. Where heavy
models were asked, the rule saw what had been read by then. Where they were not, nobody noted when
the rule was asked; a model that had failed was not waited for, and may have answered since. So
what it saw then is one of the states through which the others' answers went.
"""

import math
from collections.abc import Iterator

import numpy as np

from combiner.ahead import MOST_BYTES
from simulation.evidence import WAKE_SLACK_NS, Event, Evidence, Outcome
from simulation.process import ESCALATIONS
from streams.instants import NS_PER_MS


def _is_uncertain(evidence: Evidence, answered: dict[str, float], count: int) -> bool:
    """Whether the rule asks, if these of so many cheap models answered and nobody else will."""
    plan = evidence.plan
    few = "partial" not in plan.rungs or len(answered) < plan.minimum_members
    if not answered or (few and len(answered) < count):
        return True
    score, spread = evidence.combined(answered, "none"), float(np.std(list(answered.values())))
    if plan.classes:
        # See `simulation.inputs.shares`: the others have a quarter and three quarters of the rest.
        score = max(score, 3 * (1 - score) / 4)
        spread *= math.hypot(1.0, 0.25, 0.75)
    return plan.low <= score <= plan.high or spread > plan.max_dispersion


def _verdicts(evidence: Evidence, event: Event, read: int) -> list[bool]:
    """What the rule said after each answer of the others, up to a record; first without any."""
    cheap = [
        name
        for name, member in evidence.members.items()
        if not member.reserve and name not in evidence.plan.heavy
    ]
    said = {name: evidence.answers.get((event, name)) for name in cheap}
    come = {name: answer for name, answer in said.items() if answer and answer.record < read}
    known: dict[str, float] = {}
    found = [True]
    for name, answer in sorted(come.items(), key=lambda item: item[1].record):
        if not math.isnan(answer.score):
            known[name] = answer.score
        found.append(_is_uncertain(evidence, known, len(cheap)))
    return found


def check_questions(evidence: Evidence) -> Iterator[str]:
    """Who is asked, who is not, and that nobody waits for an answer that nobody wants."""
    heavy = set(evidence.plan.heavy)
    for outcome in evidence.outcomes:
        tenure, offset = evidence.tenure(outcome), outcome.event[2]
        if outcome.scored is None or offset not in tenure.left:
            continue
        unasked = set(outcome.scored.get("not_asked", ()))
        asked_ns = tenure.asked.get(offset)
        if unasked - heavy:
            yield f"{outcome.event}: {sorted(unasked - heavy)} are asked about every event"
        if not heavy:
            continue
        if asked_ns is not None:
            if unasked:
                yield f"{outcome.event}: {sorted(unasked)} were asked, and it says they were not"
            if not _verdicts(evidence, outcome.event, tenure.read_until(asked_ns))[-1]:
                yield f"{outcome.event}: {sorted(heavy)} were asked, and the others are certain"
            continue
        awaited = {name for name in heavy if outcome.scored["missing"].get(name) in _AWAITED}
        if awaited:
            yield f"{outcome.event}: {sorted(awaited)} were never asked, and counted as missing"
        if unasked:
            yield from _unasked(evidence, outcome, heavy)


_AWAITED = {"late", "failed"}


def _unasked(evidence: Evidence, outcome: Outcome, heavy: set[str]) -> Iterator[str]:
    """Of an event about which nobody was asked."""
    plan, tenure, offset = evidence.plan, evidence.tenure(outcome), outcome.event[2]
    (seen_ns, backlog), (left_ns, read) = tenure.seen[offset], tenure.left[offset]
    due_ns = seen_ns + (plan.limit_ms if backlog else plan.deadline_ms) * NS_PER_MS
    missing = (outcome.scored or {})["missing"]
    gave_up = _AWAITED & {why for name, why in missing.items() if name not in heavy}
    verdicts = _verdicts(evidence, outcome.event, read)
    if left_ns < due_ns and not gave_up and False not in verdicts:
        yield f"{outcome.event}: the others are uncertain, and {sorted(heavy)} were not asked"
    if plan.order == "partition" or plan.ahead_bytes < MOST_BYTES or gave_up:
        return
    cheap = {name for name, member in evidence.members.items() if not member.reserve} - heavy
    last = max(evidence.answers[(outcome.event, name)].record for name in cheap)
    ready_ns = max(seen_ns, tenure.read_at(last))
    waited_ns = left_ns - ready_ns - WAKE_SLACK_NS
    still_ns = evidence.run.journal.stood_still_ns(tenure.combiner, ready_ns, left_ns)
    if waited_ns > still_ns and not any(verdicts[1:]):
        yield f"{outcome.event}: waited {waited_ns / NS_PER_MS:.1f} ms for an answer not wanted"


def check_escalations(evidence: Evidence) -> Iterator[str]:
    """What is put out is the event, as it came, and all of what was asked is put out."""
    told: set[Event] = set()
    for record in evidence.run.log.committed_records(ESCALATIONS):
        headers = {name: (text or b"").decode() for name, text in record.record_headers}
        topic, partition, offset = headers["__ensemble.source"].split("/")
        event = evidence.events.get((topic, int(partition), int(offset)))
        told.add((topic, int(partition), int(offset)))
        if event is None or record.place[1] != int(partition):
            yield f"{headers} is no event of partition {record.place[1]}"
            continue
        if (record.record_key, record.record_value) != (event.record_key, event.record_value):
            yield f"{event.place} {event.number}: the escalation has other content"
        if int(headers["__ensemble.timestamp"]) != event.record_ms:
            yield f"{event.place} {event.number}: the escalation has another time"
    for tenure in evidence.run.journal.tenures:
        asked = {(*tenure.place, number) for number in tenure.asked}
        for silent in sorted(asked - told - evidence.run.journal.lost):
            yield f"{silent}: asked about, and not put out"
