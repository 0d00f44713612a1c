"""Every error this product raises on purpose, and whose fault each one is.

    EnsembleError                 never raised itself
    ├── ConfigurationError        the user's: a setting; carries the field's path
    ├── BundleError               the user's: a bundle that is missing, changed or unreadable
    ├── DataError                 the user's: a training or event file
    ├── BrokerError               the surroundings': Kafka is unreachable, refuses or lacks a topic
    │   ├── FencedError           another process took this one's place; leave and start afresh
    │   ├── AccessError           Kafka lets this client not in, or not do what it must
    │   └── MissingRecordsError   Kafka deleted records that were not read yet
    ├── CacheError                the surroundings': Redis; never reaches a score
    ├── ModelError                a model's: it raised, or answered what cannot be an answer
    └── RecycleError              nobody's: the process asks to be started afresh

Programmer errors are assertions, not members of this tree. Foreign exceptions are translated at
the module that calls the foreign library, and keep their cause.

A supervisor reads the exit code of the class; `retriable` tells whether to start the process again
for as long as it takes.
"""


class EnsembleError(Exception):
    """Parent of all; catch it at the front door and print its one line."""

    exit_code = 1
    retriable = False


class ConfigurationError(EnsembleError):
    """A setting is wrong: `place` is its path, the message says what was expected."""

    exit_code = 2

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(f"{place}: {problem}")
        self.place = place
        self.problem = problem


class BundleError(EnsembleError):
    """A bundle is missing, does not match its hashes, or cannot be read."""

    exit_code = 3


class DataError(EnsembleError):
    """A data file lacks a column, is empty, or is no table."""

    exit_code = 4


class BrokerError(EnsembleError):
    """Kafka is unreachable, refuses, or lacks what is needed."""

    exit_code = 5
    retriable = True


class FencedError(BrokerError):
    """Another process has taken over this one's identity."""

    exit_code = 6


class MissingRecordsError(BrokerError):
    """Records behind the committed offset are gone: somebody has to decide where to go on."""

    exit_code = 10
    retriable = False


class AccessError(BrokerError):
    """Credentials, a certificate or an authorisation is refused.

    A few more starts may help, because a broker that starts may refuse what it will soon know;
    but not for ever: many refusals lock an account.
    """

    exit_code = 11
    retriable = False


class CacheError(EnsembleError):
    """The cache did not answer; callers treat it as a miss."""

    exit_code = 7
    retriable = True


class ModelError(EnsembleError):
    """A model raised or gave an impossible answer."""

    exit_code = 8


class RecycleError(EnsembleError):
    """The process has finished what it had, and needs a fresh start: its memory is full."""

    exit_code = 9
    retriable = True
