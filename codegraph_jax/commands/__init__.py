"""The command line: `console` defines the commands, `launch` runs a config, `doctor` checks the computer."""
