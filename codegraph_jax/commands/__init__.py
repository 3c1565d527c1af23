"""The command line: `launch` runs a config, `console` knows the short commands, `doctor` looks at the machine."""
