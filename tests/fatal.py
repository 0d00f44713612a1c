"""A Kafka client that fails for good, when a test says so."""

import ctypes

from confluent_kafka import KafkaError, cimpl

from streams.bootstrap import _HANDLE_AT, Client


def fail_for_good(client: Client) -> None:
    """Have the client raise a fatal error, with librdkafka's own means for tests."""
    library = ctypes.CDLL(cimpl.__file__)
    handle = ctypes.c_void_p.from_address(id(client) + _HANDLE_AT)
    code = KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert library.rd_kafka_test_fatal_error(handle, code, b"told to") == 0
