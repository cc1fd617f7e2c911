"""``python -m openmixup NAME``: the same as the command ``openmixup``."""

from openmixup.cli import main

if __name__ == '__main__':
    main()
