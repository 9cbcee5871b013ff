"""A bar that says how far the work is, and Ctrl-C between two blocks of it."""

import math
import signal
import sys
import threading
import time
from typing import Any

_asked_to_stop = threading.Event()


def _on_ctrl_c(number: int, frame: Any) -> None:
    if _asked_to_stop.is_set():
        signal.default_int_handler(number, frame)
    _asked_to_stop.set()


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def stop_if_asked() -> None:
    if _asked_to_stop.is_set() and _in_main_thread():
        raise KeyboardInterrupt


class TimeUpError(Exception):
    """The time limit has passed: what is not computed stays so."""


class Deadline:
    """So many seconds from now; None for never."""

    def __init__(self, timeout: float | None) -> None:
        self._end = math.inf if timeout is None else time.monotonic() + timeout

    def may_pass(self) -> bool:
        """Whether there is one."""
        return self._end < math.inf

    def has_passed(self) -> bool:
        """Whether it is later."""
        return time.monotonic() > self._end


class Progress:
    """A bar on stderr: members done, members per second, time left, and how many of them failed.

    Silent without tqdm, when stderr is no terminal, or when told to be; ``wanted=True`` draws it in any case.

    Ctrl-C inside it takes effect between blocks, a second one at once. It says how far it came, and how to go on, which
    depends on whether what is done is ``stored``. Raised wherever it falls it would do harm: XLA compiles on threads of
    its own, which crash if Python ends meanwhile, and what is raised in a callback of the garbage collector is lost.
    """

    def __init__(
        self,
        total: int,
        wanted: bool | None,
        *,
        stored: bool,
        unit: str = "members",
        failed: str = "diverged",
        end: Deadline | None = None,
    ) -> None:
        self.total, self.done, self.unit, self.stored = total, 0, unit, stored
        self._end = end
        self._failed, self._failure = 0, failed
        self._bar: Any = None
        if wanted is False or (wanted is None and not sys.stderr.isatty()):
            return
        try:
            from tqdm import tqdm
        except ImportError:
            if wanted:
                raise ImportError("a progress bar needs tqdm: pip install 'jaxreg[progress]'") from None
            return
        self._bar = tqdm(total=total, unit=f" {unit}", unit_scale=True, dynamic_ncols=True)

    def __enter__(self) -> "Progress":
        self._deferred = _in_main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self._deferred:
            signal.signal(signal.SIGINT, _on_ctrl_c)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()
        asked = self._deferred and _asked_to_stop.is_set()
        if self._deferred:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            _asked_to_stop.clear()
        if kind is KeyboardInterrupt or (kind is None and asked):
            how = "the same call goes on from there" if self.stored else "give it a store= to be able to go on"
            raise KeyboardInterrupt(f"stopped with {self.done} of {self.total} {self.unit} done; {how}") from None

    def advance(self, members: int, failed: int, *, restored: bool = False) -> None:
        """More members are done, some of them failed; restored ones took no time and do not count for the speed.

        Raises:
            TimeUpError: if the time limit has passed and members are left to be computed.
        """
        self.done += members
        self._failed += failed
        stop_if_asked()
        if self._bar is not None:
            if self._failed:
                self._bar.set_postfix_str(f"{self._failed} {self._failure}", refresh=False)
            if restored:
                self._bar.initial += members
            self._bar.update(members)
        if self._end is not None and not restored and self.done < self.total and self._end.has_passed():
            raise TimeUpError
