"""A script as a child process: started, heard, and ended with all of it; see `supervision/process.py`."""
