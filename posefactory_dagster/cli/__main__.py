"""`python -m posefactory_dagster.cli`, where the `posefactory` command is not on the path."""

from posefactory_dagster.cli.app import main

if __name__ == "__main__":
    main()
