"""What a user got wrong, said in one line."""

import logging
import sys


class InputError(Exception):
    """Something the user gave is wrong. The message is one line: what is wrong, where (file:line), and the remedy."""


def exit_on_input_error(main):
    """Run `main()`. An InputError ends the program with its one line and exit code 2, never a traceback.

    Anything else is a fault of ours: its traceback also goes into the log file, where a long run is looked up later.
    """
    log = logging.getLogger("udml")
    try:
        main()
    except InputError as error:
        if log.handlers:
            log.error("error: %s", error)
        else:
            print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except Exception:
        if log.handlers:
            log.exception("the run ended with an unexpected error")
            sys.exit(1)
        raise
