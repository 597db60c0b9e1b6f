"""Studies: methods that are tuned alike, run with equal budgets and compared, from one YAML file."""
