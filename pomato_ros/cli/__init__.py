"""The subcommands of `pomato`."""
