"""From a checked request to a task: at most one paid task for each graph and take, whatever fails.

The only room that makes the gateway create a task. ``step.py`` decides what may be sent, ``loop.py`` waits between
the steps.
"""
