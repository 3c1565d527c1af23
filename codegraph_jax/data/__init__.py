"""Images in: what lies on disk, how it is decoded, and how it reaches the device in batches."""
