"""How nodes run: worker threads, waits that Cancel can end, and the line and bar that a node shows.

This room knows nothing of Kling.
"""
