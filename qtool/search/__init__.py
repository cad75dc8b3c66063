"""The search for the fastest model inside the budget: what each layer costs, then what to try."""
