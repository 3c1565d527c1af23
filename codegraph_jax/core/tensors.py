"""What goes wrong when a safetensors file is read.

The library bounds the header (100 MB), checks declared shapes against the size of the file, and maps the file, so that
nothing is allocated that it does not hold. Its errors are many, though: a type that NumPy lacks is an AttributeError.
"""

from safetensors import SafetensorError

READ_ERRORS = (SafetensorError, OSError, ValueError, TypeError, AttributeError, OverflowError)
"""All that a damaged or hostile file was seen to raise, and their kin."""
