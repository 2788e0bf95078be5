"""Files written whole or not at all, read under caps, locked."""
