"""Published tables beside measured ones."""
