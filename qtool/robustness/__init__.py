"""How both models bear rows that an attacker, noise or a missing value has changed."""
