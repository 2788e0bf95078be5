"""``experiments.yaml``: its entries, its text, and edits that keep what a person wrote."""
