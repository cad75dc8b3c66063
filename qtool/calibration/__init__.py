"""The streaming pass that gives every planned activation its range."""
