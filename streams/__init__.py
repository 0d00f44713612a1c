"""What flows, and the only doors to Kafka."""
