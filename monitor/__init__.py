"""Watches the health of the models, over all combiners."""
