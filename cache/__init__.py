"""Memory of scores: never on the path of correctness, never in the way."""
