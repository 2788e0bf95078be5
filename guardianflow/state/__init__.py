"""The SQL engine of our own state: tables, migrations."""
