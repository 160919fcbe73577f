"""`python -m diarbench` is `diarbench`."""

from diarbench.cli import main

if __name__ == "__main__":
    main()
