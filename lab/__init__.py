"""Offline: from a table to a trained ensemble bundle."""
