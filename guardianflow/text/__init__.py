"""Names, units, what may be printed, what must not be."""
