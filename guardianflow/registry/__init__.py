"""Who is champion: ledger, promotion, rollback, gate, evidence."""
