"""The commands of ``python -m nodes``. They talk to the user; what they do is done elsewhere."""
