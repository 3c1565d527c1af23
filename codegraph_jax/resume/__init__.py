"""Saved state of a detection run: results of finished categories, and features and tables of the current one."""
