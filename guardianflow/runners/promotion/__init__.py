"""Promotions and rollbacks as notebooks."""
