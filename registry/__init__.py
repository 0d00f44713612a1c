"""What runs: the ensemble bundle, its hashes, its schema."""
