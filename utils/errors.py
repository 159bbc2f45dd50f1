"""The exceptions that end a run early, each with one line for the user and its own exit code."""

import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import NoReturn


class InputError(Exception):
    """An input of the user is wrong. The message is one line: the fault, its place (file:line), and the remedy.

    setting: the name of the setting that the message is about, if any. An entry point puts that flag before the message.
    """

    def __init__(self, message: str, setting: str | None = None) -> None:
        super().__init__(message)
        self.setting = setting

    @property
    def shown(self) -> str:
        """The message as an entry point shows it."""
        return f"--{self.setting} {self}" if self.setting else str(self)


class RunError(Exception):
    """The run cannot go on: a full disk, a lost process, a loss that is not finite. The message is one line with the remedy.

    rescue: whether a checkpoint of the last whole step is worth keeping and can be written.
    """

    def __init__(self, message: str, rescue: bool = False) -> None:
        super().__init__(message)
        self.rescue = rescue


class Interrupted(BaseException):
    """A signal told the run to stop. It is no Exception: a library might catch it and go on.

    code: the exit code: 128 + the signal's number, as in a shell, but SIGUSR1 has the code of SIGTERM, 143.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def exit_on_error(main: Callable[[], None]) -> None:
    """Run `main()`. An error that the user can mend ends it with one line, never a traceback.

    Exit codes: 2 for an InputError, 1 for a RunError, 143, 130 or 129 when a signal stopped it. Any other exception is a bug
    in the project. Its traceback also goes into the log file.
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
        # Only the first process reports an InputError. The others wait here until torchrun ends them.
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
