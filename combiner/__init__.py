"""The decision: who is waited for, what the score is, and what it has to do without."""
