"""The command line: `launch` runs a config, `console` defines the commands, `doctor` checks the machine."""
