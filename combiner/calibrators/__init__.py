"""Ways to turn the ensemble's scores into probabilities that mean what they say; one a file."""
