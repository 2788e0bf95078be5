"""Prints as many megabytes as it is told to, as fast as it can."""

import sys

LINE = b"step 000001 loss: 0.123456 some more words to make the line longer than that\n"
block = LINE * 10_000
left = int(float(sys.argv[1]) * 1e6)
while left > 0:
    left -= sys.stdout.buffer.write(block)
print("the last line of the flood", flush=True)
