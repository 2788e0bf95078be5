"""Scenarios and the plans that are made from them."""
