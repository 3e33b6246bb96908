"""The commands of ``python -m nodes``. They talk to the user and leave the work to other modules."""
