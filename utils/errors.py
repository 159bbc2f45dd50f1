"""What ends a run early: said in one line, with an exit code of its own."""

import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import NoReturn


class InputError(Exception):
    """Something the user gave is wrong. The message is one line: what is wrong, where (file:line), and the remedy.

    setting: the name of the setting that the message begins with, if it is about one: an entry point has a flag for it.
    """

    def __init__(self, message: str, setting: str | None = None) -> None:
        super().__init__(message)
        self.setting = setting

    @property
    def shown(self) -> str:
        """The message as an entry point shows it."""
        return f"--{self.setting} {self}" if self.setting else str(self)


class RunError(Exception):
    """The run cannot go on: a full disk, a lost process, a loss that is not finite. One line, with the remedy.

    rescue: whether the run as it was after its last whole step is worth a checkpoint, and one can be written.
    """

    def __init__(self, message: str, rescue: bool = False) -> None:
        super().__init__(message)
        self.rescue = rescue


class Interrupted(BaseException):
    """A signal asked the run to stop. It is no Exception: a library might catch it and go on.

    code: the exit code, 128 + the signal's number by the shell's custom.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def exit_on_error(main: Callable[[], None]) -> None:
    """Run `main()`. An error that a user can do something about ends it with one line, never a traceback.

    Exit codes: 2 for an InputError, 1 for a RunError, 143, 130 or 129 when a signal stopped it. Anything else is a fault of
    ours: its traceback also goes into the log file, for whoever looks at a long run later.
    """
    try:
        main()
    except InputError as error:
        _leave("error: ", error.shown, 2)
    except RunError as error:
        _leave("error: ", error, 1)
    except Interrupted as error:
        _leave("stopped: ", error, error.code)
    except Exception:
        if not logging.getLogger("udml").handlers:
            raise
        logging.getLogger("udml").exception("the run ended with an unexpected error")
        _leave("", None, 1)


def _leave(title: str, error: object, code: int) -> NoReturn:
    if int(os.environ.get("RANK", 0)) and code == 2:
        # One of several processes. The first one says what is wrong for all of them, and then torchrun ends the others.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(5)
    log = logging.getLogger("udml")
    if error is None:
        pass
    elif log.handlers:
        log.error("%s%s", title, error)
    else:
        print(f"{title}{error}", file=sys.stderr)
    if sys.stdout:  # None where it was closed before the start
        sys.stdout.flush()
    sys.exit(code)
