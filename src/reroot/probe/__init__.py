"""What an endpoint really grants, found by asking."""
