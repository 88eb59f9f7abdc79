"""REST: parse, ask tasks or archive, answer."""
