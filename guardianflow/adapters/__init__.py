"""What people already have: scripts that are wrapped, folders that are scanned, runs that are brought in."""
