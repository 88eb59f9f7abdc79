"""LDIF that ships: our schema and the sample cluster."""
