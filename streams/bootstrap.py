"""Names its bootstrap servers to a Kafka client once more.

librdkafka may be told of brokers at any time (`rd_kafka_brokers_add` of its C interface), and takes
to them like to those that it began with. Its Python client does not pass that on. An object of
that client begins, behind what all Python objects begin with, with the handle of librdkafka.
"""

import ctypes
import re

import confluent_kafka
from confluent_kafka import Consumer, Producer, cimpl

# Versions whose source was looked at for that: `Handle` in `confluent_kafka.h`.
_KNOWN = re.compile(r"2\.16\.\d+")
_HANDLE_AT = object.__basicsize__

Client = Consumer | Producer


def bootstrap_again(client: Client, servers: str) -> bool:
    """Name its servers to a client, which must not be closed meanwhile.

    Args:
        client: a consumer or a producer.
        servers: as in `bootstrap.servers`.

    Returns:
        Whether the client took one of them. It does not of a version that is not known here.
    """
    if not _KNOWN.fullmatch(str(confluent_kafka.__version__)):
        return False
    handle = ctypes.c_void_p.from_address(id(client) + _HANDLE_AT).value
    # Closed clients have none.
    return bool(handle) and _library().rd_kafka_brokers_add(handle, servers.encode()) > 0


def _library() -> ctypes.CDLL:
    """The librdkafka that the client is linked to."""
    library = ctypes.CDLL(cimpl.__file__)
    library.rd_kafka_brokers_add.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    library.rd_kafka_brokers_add.restype = ctypes.c_int
    return library
