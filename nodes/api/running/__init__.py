"""How nodes run: worker threads, waiting that Cancel ends, and the line and bar that a node shows.

Knows nothing of Kling.
"""
