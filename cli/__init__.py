"""The front door: commands, wiring, and the supervisor."""
