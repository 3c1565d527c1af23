"""Reads image sets: finds files, decodes images and masks, and makes batches."""
