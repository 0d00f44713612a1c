"""`python -m cli` is `ensemble`."""

from cli.main import main

if __name__ == "__main__":
    main()
