"""`python -m optprune_fast` is `optprune-fast`."""

from optprune_fast.cli import main

if __name__ == "__main__":
    main()
