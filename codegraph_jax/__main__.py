"""`python -m codegraph_jax COMMAND`: the command `codegraph` where the project is not installed."""

from codegraph_jax.commands.console import main

if __name__ == "__main__":
    main()
