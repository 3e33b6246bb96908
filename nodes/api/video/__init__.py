"""From a task_id to a video file: waiting, downloading, checking.

Nothing here can pay: it asks the gateway and downloads from servers that it does not trust.
"""
