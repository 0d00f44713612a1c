"""Ways to make one score of several; one class a file."""
