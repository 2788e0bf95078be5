"""Inference runtimes, one file each, behind one contract; see :mod:`guardianflow.vision.backends.catalog`."""
