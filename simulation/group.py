"""A consumer group: who reads which partition numbers, and who only believes to.

Members are static: one that is away keeps its partitions until its session ends. A change waits
until everybody has answered or was expelled, as the real protocol does. All that is committed
under an older generation, or by somebody who was expelled, is refused.
"""

from typing import Protocol

from simulation.log import RefusedError


class GroupMember(Protocol):
    """What the group asks of a member."""

    name: str

    @property
    def present(self) -> bool:
        """Whether it answers at present."""
        ...

    def revoke(self) -> None:
        """Finish, commit, and give everything back."""
        ...

    def assign(self, partitions: list[int], generation: int) -> None:
        """These partition numbers of all topics are yours."""
        ...


class Group:
    """The members of one group in the order of their names, and the partitions of each."""

    def __init__(self, name: str, partitions: int) -> None:
        self.name = name
        self.generation = 0
        self.rebalances = 0
        self._partitions = partitions
        self._members: dict[str, GroupMember] = {}
        self._owned: dict[str, list[int]] = {}
        self._changing = False

    def join(self, member: GroupMember) -> None:
        """Come, or come back within the session: then nothing moves."""
        known = member.name in self._members
        self._members[member.name] = member
        if known and not self._changing:
            member.assign(self._owned.get(member.name, []), self.generation)
        else:
            self._changing = True
            self.rebalance()

    def leave(self, name: str) -> None:
        """Leave for good, or be expelled."""
        if self._members.pop(name, None) is not None:
            self._owned.pop(name, None)
            self._changing = True
            self.rebalance()

    def rebalance(self) -> None:
        """Share out anew what must be, if everybody is there."""
        if not self._changing or not all(m.present for m in self._members.values()):
            return
        self._changing = False
        members = [self._members[name] for name in sorted(self._members)]
        for member in members:
            if member.name in self._owned:
                member.revoke()
        if not all(member.present for member in members):
            self._changing = True  # somebody died over it: wait again
            return
        self.generation += 1
        self.rebalances += len(members) > 1
        share, rest = divmod(self._partitions, len(members) or 1)
        first = 0
        for place, member in enumerate(members):
            count = share + (place < rest)
            self._owned[member.name] = list(range(first, first + count))
            first += count
            member.assign(self._owned[member.name], self.generation)

    def owns(self, member: GroupMember, generation: int) -> bool:
        """Whether somebody is still what it believes to be."""
        return self._members.get(member.name) is member and self.generation == generation

    def check(self, member: GroupMember, generation: int) -> None:
        """Raise RefusedError for the commits of those who are not."""
        if not self.owns(member, generation):
            raise RefusedError("an old generation")
