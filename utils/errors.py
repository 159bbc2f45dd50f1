"""What a user got wrong, said in one line."""

import sys


class InputError(Exception):
    """Something the user gave is wrong. The message is one line: what is wrong, where (file:line), and the remedy."""


def exit_on_input_error(main):
    """Run `main()`; an InputError ends the program with its one line on stderr and exit code 2, never a traceback."""
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
