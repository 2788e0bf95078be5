"""From a file to boxes: decoding, letterbox, forward, box selection."""
