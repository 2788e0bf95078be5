"""Prints what is no UTF-8, a line that never ends, and NUL bytes."""

import sys

sys.stdout.buffer.write(b"\xff\xfe broken \x80\x81\n\x00\x00\nloss: 0.5\n" + b"x" * 1_000_000)
sys.stderr.buffer.write("오류 \n".encode("cp949"))
