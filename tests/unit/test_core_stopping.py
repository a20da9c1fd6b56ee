"""opml.core.stopping: SIGTERM is noticed between two steps, and nothing else changes."""

import os
import signal
import threading

from opml.core.stopping import Stopping


def test_the_signal_is_noticed_between_two_steps_and_its_handler_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with Stopping(together=False) as stopping:
        assert not stopping.after_step(1) and not stopping.after_epoch()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopping.after_step(2) and stopping.after_epoch()
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_thread_has_no_signals_and_trains_all_the_same():
    answers = []

    def train():
        with Stopping(together=True) as stopping:
            answers.append(stopping.after_step(1))

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert answers == [False]
