"""Tells a video file from other things that servers send, by its first bytes and its boxes."""

from __future__ import annotations

import os
from typing import BinaryIO

_BOXES = (b"ftyp", b"styp", b"moov", b"mdat", b"wide", b"free", b"skip")
"""The boxes with which an MP4 or QuickTime file may begin, after four bytes of length."""

_MATROSKA = b"\x1aE\xdf\xa3"


def is_video(head: bytes, content_type: str) -> bool:
    """Whether a file that begins with ``head`` is a video. Other formats than MP4 and WebM go by the content type."""
    if head[4:8] in _BOXES or head.startswith(_MATROSKA):
        return True
    is_text = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"", b"<", b"{", b"[")
    return content_type.lower().startswith("video/") and not is_text


def missing_bytes(file: BinaryIO) -> int:
    """How many bytes an MP4 file lacks according to its boxes. 0 for a complete file and for other formats.

    If the server gave no length, or a wrong one, nothing else shows that a download was cut off.
    """
    end = file.seek(0, os.SEEK_END)
    position = 0
    while position + 8 <= end:
        file.seek(position)
        header = file.read(16)
        size, kind = int.from_bytes(header[:4], "big"), header[4:8]
        if position == 0 and kind not in _BOXES:
            return 0
        if size == 1:
            size = int.from_bytes(header[8:16], "big")
        # 0 means the rest of the file. A size too small for a box is no reason to reject a video.
        if size < 8:
            return 0
        position += size
    return max(0, position - end)
