"""`pomato evaluate`: one subcommand for each kind of truth, so that no option contradicts another."""
