"""The past once more: dead letters sent again, and a stretch of events decided again."""
