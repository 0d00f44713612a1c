"""One model, one agent: events in, predictions out."""
