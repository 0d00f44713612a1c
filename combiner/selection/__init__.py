"""Ways to choose members event by event; one class a file."""
