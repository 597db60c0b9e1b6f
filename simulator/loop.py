"""The loop of a run on one process: steps, evaluations, checkpoints and the agreement on stopping."""

import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from simulator.algorithms.base import State
from simulator.processes import STOPPED_EXIT_CODE
from simulator.recorder import Recorder
from simulator.simulation import Simulation

log = logging.getLogger(__name__)

_CONTROL_INTERVAL_S = 0.5


class StopRequest:
    """Whether SIGTERM or SIGINT has asked this process to stop at the next step that all agree on."""

    def __init__(self) -> None:
        self.received = 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Replaces the handlers inside the block; a second SIGINT ends the process at once.

        Python delivers signals to the main thread only, so that other threads replace nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {number: signal.signal(number, self._receive) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _receive(self, number: int, _: object) -> None:
        if self.received == signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number


class Loop:
    """Steps a simulation to its end, or to the step at which all processes agree to stop."""

    def __init__(self, simulation: Simulation, recorder: Recorder, stop: StopRequest) -> None:
        self._simulation = simulation
        self._recorder = recorder
        self._stop = stop
        self._num_steps: int = simulation.settings["num_steps"]

    def run(self, state: State, first_step: int) -> None:
        """Runs from ``first_step`` on, and reports.

        Raises:
            SystemExit: when the run was asked to stop; its checkpoint is written.
        """
        self._recorder.start_clock()
        if first_step < self._num_steps and self._is_evaluated(first_step):
            self._recorder.evaluate(state, first_step)
        state, step = self._steps(state, first_step)
        if step < self._num_steps:
            if self._recorder.is_first:
                name = signal.Signals(self._stop.received).name
                log.warning("stopped by %s after step %d; continue with resume=%s", name, step, self._recorder.folder)
            raise SystemExit(STOPPED_EXIT_CODE)
        self._recorder.finish(state, step)

    def _steps(self, state: State, first_step: int) -> tuple[State, int]:
        """Runs all steps, or those before an agreed stop; returns the state and the number of completed steps."""
        recorder = self._recorder
        checkpoint_every = self._simulation.settings["checkpoint"]["every"]
        meeting = _Meeting(self._simulation, self._stop, first_step)
        for step in range(first_step, self._num_steps):
            state = self._simulation.step(state, step)
            done = step + 1
            recorder.progress(done)
            saved = checkpoint_every > 0 and (done % checkpoint_every == 0 or done == self._num_steps)
            if saved:
                recorder.save(state, done)
            if done == self._num_steps:
                break
            if done == meeting.next_step:
                recorder.require_finite(state, done)
                if meeting.agrees_to_stop(done):
                    if not saved:
                        recorder.save(state, done)
                    return state, done
            if self._is_evaluated(done):
                recorder.evaluate(state, done)
        return state, self._num_steps

    def _is_evaluated(self, step: int) -> bool:
        """Whether to evaluate after ``step`` completed steps; always true at the end of the run."""
        if step == 0 or step % self._simulation.settings["eval_every"] == 0:
            return True
        return self._simulation.algorithm.evaluates_after(step - 1)


class _Meeting:
    """Chooses the steps at which all processes agree on whether to stop: about twice a second.

    The next such step is the one that the fastest process expects to reach in half a second.
    """

    def __init__(self, simulation: Simulation, stop: StopRequest, first_step: int) -> None:
        self._network = simulation.network
        self._stop = stop
        self._last_step, self._last_time = first_step, time.perf_counter()
        self.next_step = first_step + 1

    def agrees_to_stop(self, done: int) -> bool:
        """Whether some process was asked to stop; every process calls it after ``next_step`` completed steps."""
        elapsed = max(time.perf_counter() - self._last_time, 1e-6)
        ahead = max(1, int((done - self._last_step) * _CONTROL_INTERVAL_S / elapsed))
        stop, minus_ahead = self._network.agree([self._stop.received, -ahead])
        if stop:
            self._stop.received = stop
            return True
        self._last_step, self._last_time = done, time.perf_counter()
        self.next_step = done - minus_ahead
        return False
