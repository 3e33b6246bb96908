"""From a task_id to a video file: waiting, downloading, checking.

Nothing here can spend money: it queries the gateway, and downloads from servers that it does not trust.
"""
