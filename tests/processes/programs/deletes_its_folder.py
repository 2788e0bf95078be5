"""Deletes the folder that it runs in, and goes on printing."""

import shutil
from pathlib import Path

shutil.rmtree(Path.cwd())
print("the folder is gone", flush=True)
