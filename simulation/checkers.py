"""The judges: they see the logs and the journal, and share no code with what they judge.

Each takes the evidence of a run and yields what is wrong. The answer of a model to an event is,
for a judge, the first record in `predictions` that holds a valid one; from how far a combiner had
read at the instant of a decision follows exactly whose answers it must have used.
"""

import math
from base64 import b85decode
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

from combiner.ahead import MOST_BYTES
from simulation.evidence import WAKE_SLACK_NS, Event, Evidence
from simulation.inputs import EXPECT, GOOD
from simulation.journal import Tenure
from simulation.questions import check_escalations, check_questions
from simulation.world import CACHED_MAX_AGE_MS, PRIOR, Run, weights_of
from streams.columns import Position
from streams.instants import NS_PER_MS

# From a deadline until a `read_committed` reader has the score.
VISIBLE_SLACK_NS = 100 * NS_PER_MS


def ahead_of(position: Position) -> set[int]:
    """The offsets that a committed position names as settled, read digit by digit."""
    text, found, offset = position.metadata, set[int](), position.offset
    content = b85decode(text.removeprefix("ahead-1:"))
    number, shift, settled = 0, 0, False
    for byte in content:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            if settled:
                found.update(range(offset, offset + number))
            offset, number, shift, settled = offset + number, 0, 0, not settled
    return found


def check_finished(evidence: Evidence) -> Iterator[str]:
    """When the faults are over, all comes to rest."""
    if not evidence.run.finished:
        yield "the run never came to rest"


def check_once(evidence: Evidence) -> Iterator[str]:
    """One outcome for each event; with at-least-once one or more, but none that was committed."""
    counts = Counter(outcome.event for outcome in evidence.outcomes)
    tenures = Counter((o.event, o.entry.written_by) for o in evidence.outcomes)
    exactly = evidence.plan.delivery == "exactly_once"
    for event in evidence.events:
        if not counts[event]:
            yield f"{event} has no outcome"
        elif exactly and counts[event] > 1:
            yield f"{event} has {counts[event]} outcomes"
    yield from (f"{event} is no event" for event in counts if event not in evidence.events)
    for (event, tenure), count in tenures.items():
        if count > 1:
            yield f"{event} left tenure {tenure} {count} times"
    for outcome in evidence.outcomes:
        began = evidence.tenure(outcome).began
        if outcome.event[2] < began.offset or outcome.event[2] in ahead_of(began):
            yield f"{outcome.event} had its outcome when its tenure began"


def check_order(evidence: Evidence) -> Iterator[str]:
    """Outcomes of a partition come in the order of its events; a tenure never goes back."""
    if evidence.plan.order == "ready":
        return
    last: dict[tuple[object, ...], int] = {}
    exactly = evidence.plan.delivery == "exactly_once"
    for outcome in evidence.outcomes:
        *place, offset = outcome.event
        stream = (outcome.entry.place, *place, 0 if exactly else outcome.entry.written_by)
        if offset <= last.get(stream, -1):
            yield f"{outcome.event} comes after offset {last[stream]}"
        last[stream] = offset


def check_dead_letters(evidence: Evidence) -> Iterator[str]:
    """Dead letters are exactly for bad events, say why, and carry what came."""
    for outcome in evidence.outcomes:
        event = evidence.events.get(outcome.event)
        if event is None:
            continue
        expected = dict(event.record_headers)[EXPECT]
        if outcome.scored is None:
            if outcome.error.encode() != expected:
                yield f"{outcome.event}: {outcome.error}, expected {expected!r}"
            if outcome.entry.record_value != event.record_value:
                yield f"{outcome.event}: the dead letter has other content"
        elif expected != GOOD:
            yield f"{outcome.event} is bad and has a score"
        if outcome.entry.record_key != event.record_key:
            yield f"{outcome.event}: the outcome has another key"


def check_answers(evidence: Evidence) -> Iterator[str]:
    """Each score rests on exactly the answers that had been read when it was decided."""
    for outcome in evidence.outcomes:
        if outcome.scored is not None:
            tenure = evidence.tenure(outcome)
            offset = outcome.event[2]
            if offset not in tenure.left:
                yield f"{outcome.event} was published and never decided"
                continue
            _, read = tenure.left[offset]
            yield from _wrong_answers(evidence, outcome.event, outcome.scored, read)


def _wrong_answers(
    evidence: Evidence, event: Event, record: dict[str, Any], read: int
) -> Iterator[str]:
    there = {
        name: answer.score
        for name in evidence.members
        if (answer := evidence.answers.get((event, name))) is not None and answer.record < read
    }
    refused = {name for name, score in there.items() if math.isnan(score)}
    answered = {name: score for name, score in there.items() if name not in refused}
    names = {name for name, member in evidence.members.items() if not member.reserve}
    rung, used, missing = record["fallback"], set(record["models"]), record["missing"]
    unasked = set(record.get("not_asked", ()))
    if missing.keys() | unasked != names - answered.keys() or missing.keys() & unasked:
        yield f"{event}: missing {missing}, but {sorted(answered)} had answered"
    for name, why in missing.items():
        if why.startswith("refused") != (name in refused):
            yield f"{event}: {name} is missing as {why!r}"
    expected = _rung(evidence, names, answered, unasked)
    if rung != expected and (rung, expected) != ("prior", "cached"):
        yield f"{event}: rung {rung}, expected {expected}"
    on = {"none": names, "partial": names, "reserve": evidence.members.keys() - names}
    if used != answered.keys() & on.get(rung, set()):
        yield f"{event}: rung {rung} of {sorted(used)}, but {sorted(answered)} had answered"
    for name, score in (record.get("predictions") or {}).items():
        if name in answered and abs(score - answered[name]) > 1e-6:
            yield f"{event}: {name} said {answered[name]}, and {score} was used"
    if used and used <= answered.keys():
        score = evidence.combined({name: answered[name] for name in used}, rung)
        if abs(score - record["score"]) > 1e-9:
            yield f"{event}: score {record['score']}, expected {score}"


def _rung(
    evidence: Evidence, names: set[str], answered: dict[str, float], unasked: set[str]
) -> str:
    rungs, members = evidence.plan.rungs, names & answered.keys()
    if members | unasked == names:
        return "none"
    if "partial" in rungs and len(members) >= evidence.plan.minimum_members:
        return "partial"
    if "reserve" in rungs and answered.keys() - names:
        return "reserve"
    return "cached" if "cached" in rungs else "prior"


def check_fallbacks(evidence: Evidence) -> Iterator[str]:
    """A cached score was published before for the same entity; a prior is the prior."""
    published: dict[str, set[float]] = {}
    for outcome in evidence.outcomes:
        record = outcome.scored
        if record and record["fallback"] not in {"cached", "prior"}:
            who = (outcome.entry.record_key or b"").decode()
            published.setdefault(who, set()).add(record["score"])
    for outcome in evidence.outcomes:
        record = outcome.scored
        if record is None:
            continue
        who = (outcome.entry.record_key or b"").decode()
        if record["fallback"] == "prior" and record["score"] != PRIOR:
            yield f"{outcome.event}: the prior is {PRIOR}, not {record['score']}"
        if record["fallback"] == "cached":
            if record["score"] not in published.get(who, set()):
                yield f"{outcome.event}: nobody ever gave {who} {record['score']}"
            if not 0 <= record["cached_age_ms"] <= CACHED_MAX_AGE_MS:
                yield f"{outcome.event}: a cached score of {record['cached_age_ms']} ms"


def check_deadlines(evidence: Evidence) -> Iterator[str]:
    """Nobody waits longer than allowed, and no fresh event gives up on a late model earlier.

    What stands behind backlog waits for it, in order of the partition or where there is no room to
    note what left ahead; a process that stands still is excused for as long.
    """
    plan, journal = evidence.plan, evidence.run.journal
    deadline_ns, limit_ns = plan.deadline_ms * NS_PER_MS, plan.limit_ms * NS_PER_MS
    waits = plan.order == "partition" or plan.ahead_bytes < MOST_BYTES
    due: dict[tuple[int, int], int] = {}
    for tenure in journal.tenures:
        latest_ns = 0
        for offset, (seen_ns, backlog) in tenure.seen.items():
            own_ns = seen_ns + (limit_ns if backlog else deadline_ns)
            latest_ns = max(latest_ns, own_ns) if waits else own_ns
            due[(tenure.number, offset)] = latest_ns
            if offset not in tenure.left:
                continue
            left_ns, _ = tenure.left[offset]
            late_ns = left_ns - latest_ns - WAKE_SLACK_NS
            if late_ns > 0 and late_ns > journal.stood_still_ns(tenure.combiner, seen_ns, left_ns):
                yield f"{tenure.place} {offset}: decided {late_ns / NS_PER_MS:.1f} ms too late"
    for outcome in evidence.outcomes:
        tenure, offset = evidence.tenure(outcome), outcome.event[2]
        if offset not in tenure.left:
            continue
        seen_ns, backlog = tenure.seen[offset]
        still_ns = journal.stood_still_ns(tenure.combiner, seen_ns, outcome.entry.visible_ns)
        late_ns = outcome.entry.visible_ns - due[(tenure.number, offset)] - VISIBLE_SLACK_NS
        if late_ns > still_ns:
            yield f"{outcome.event}: visible {late_ns / NS_PER_MS:.1f} ms too late"
        gave_up = outcome.scored is not None and "late" in outcome.scored["missing"].values()
        if gave_up and not backlog and tenure.left[offset][0] < seen_ns + deadline_ns:
            yield f"{outcome.event}: gave up before the deadline"


def check_quorum(evidence: Evidence) -> Iterator[str]:
    """Nobody is left out before its time but for a quorum."""
    plan = evidence.plan
    weights = dict(zip(evidence.members, weights_of(plan), strict=True))
    names = {name for name, member in evidence.members.items() if not member.reserve}
    for outcome in evidence.outcomes:
        record = outcome.scored
        if record is None or "not awaited" not in record["missing"].values():
            continue
        used, missing = set(record["models"]), set(record["missing"])
        share = sum(weights[name] for name in used) / sum(weights[name] for name in names)
        if len(used) < plan.minimum_members or plan.quorum == "all":
            yield f"{outcome.event} left for the quorum of {sorted(used)}"
        elif plan.quorum == "share" and share < plan.quorum_share - 1e-9:
            yield f"{outcome.event} left for a share of {share}"
        elif plan.quorum == "certain" and len(_labels(evidence, record, missing)) > 1:
            yield f"{outcome.event} left with an uncertain label"


def _labels(evidence: Evidence, record: dict[str, Any], missing: set[str]) -> set[bool]:
    """The labels that are possible if those that did not refuse answer 0, or 1, or not at all."""
    known = dict(record["predictions"])
    silent = [name for name in missing if not record["missing"][name].startswith("refused")]
    futures = product((None, 0.0, 1.0), repeat=len(silent))
    return {
        evidence.combined(known | {n: s for n, s in zip(silent, future, strict=True)
                                     if s is not None}, record["fallback"]) >= 0.5
        for future in futures
    }  # fmt: skip


def check_backlog(evidence: Evidence) -> Iterator[str]:
    """Backlog does not go without a model that still makes progress."""
    stall_ns = evidence.plan.stall_ms * NS_PER_MS
    limit_ns = evidence.plan.limit_ms * NS_PER_MS
    for outcome in evidence.outcomes:
        tenure, offset = evidence.tenure(outcome), outcome.event[2]
        if outcome.scored is None or offset not in tenure.left:
            continue
        (seen_ns, backlog), (left_ns, _) = tenure.seen[offset], tenure.left[offset]
        if not backlog or left_ns >= seen_ns + limit_ns:
            continue
        late = {name for name, why in outcome.scored["missing"].items() if why == "late"}
        moved = late & _heard(evidence, tenure, left_ns - stall_ns, left_ns)
        if late and left_ns < seen_ns + stall_ns:
            yield f"{outcome.event}: backlog left without {sorted(late)} within the stall time"
        elif moved:
            yield f"{outcome.event}: backlog left while {sorted(moved)} made progress"


def _heard(evidence: Evidence, tenure: Tenure, after_ns: int, until_ns: int) -> set[str]:
    """The models of which a tenure read something between two instants."""
    ranges = [(b, e) for at_ns, b, e in tenure.reads if after_ns < at_ns <= until_ns]
    topic, partition = tenure.place
    return {
        frame.model
        for record, frame in evidence.frames.get(partition, ())
        if frame.topic == topic and any(begin <= record < end for begin, end in ranges)
    }


CHECKERS: tuple[Callable[[Evidence], Iterator[str]], ...] = (
    check_finished,
    check_once,
    check_order,
    check_dead_letters,
    check_answers,
    check_fallbacks,
    check_deadlines,
    check_quorum,
    check_backlog,
    check_questions,
    check_escalations,
)


def violations(run: Run) -> list[str]:
    """All that is wrong with a run."""
    evidence = Evidence(run)
    return [
        f"{checker.__name__.removeprefix('check_')}: {problem}"
        for checker in CHECKERS
        for problem in checker(evidence)
    ]


def rungs_of(run: Run) -> Counter[str]:
    """How many scores stand on each rung."""
    scored = [outcome.scored for outcome in Evidence(run).outcomes if outcome.scored]
    return Counter(record["fallback"] for record in scored)
