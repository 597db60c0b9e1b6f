"""The loop of a run on one process: steps, evaluations, checkpoints and the agreement on stopping."""

import logging
import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from simulator.algorithms.base import State
from simulator.budget import Budget
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


class SimulatedTimes:
    """The simulated times at which a run is evaluated, and at which it ends.

    Args:
        simulation: has the settings ``eval_every_s`` and ``max_sim_s``, and tells the time.
    """

    def __init__(self, simulation: Simulation) -> None:
        self._network = simulation.network
        self._every_s: float | None = simulation.settings["eval_every_s"]
        self._end_s: float = simulation.settings["max_sim_s"] or math.inf
        self._next_s = math.inf
        self.evaluated()

    @property
    def now_s(self) -> float:
        """How far the run has come, seconds."""
        return 0.0 if self._network.times is None else self._network.times.sim_s

    @property
    def next_s(self) -> float | None:
        """When something is to be done; None for never."""
        following = min(self._next_s, self._end_s)
        return following if following < math.inf else None

    @property
    def is_up(self) -> bool:
        """Whether the run ends."""
        return self.now_s >= self._end_s

    @property
    def is_due(self) -> bool:
        """Whether to evaluate."""
        return self.now_s >= self._next_s

    def evaluated(self) -> None:
        """Sets the next time at which to evaluate."""
        if self._every_s is not None:
            self._next_s = self._every_s * (math.floor(self.now_s / self._every_s) + 1)


class Loop:
    """Steps a simulation to its end, or to the step at which all processes agree to stop."""

    def __init__(self, simulation: Simulation, recorder: Recorder, stop: StopRequest) -> None:
        self._simulation = simulation
        self._recorder = recorder
        self._stop = stop
        self._num_steps: int = simulation.settings["num_steps"]
        self._budget = Budget(simulation)

    def run(self, state: State, first_step: int) -> None:
        """Runs from ``first_step`` on, and reports.

        Raises:
            SystemExit: when the run was asked to stop; its checkpoint is written.
        """
        self._recorder.start_clock()
        self._times = SimulatedTimes(self._simulation)
        if first_step and self._is_over(first_step):
            self._recorder.finish(state, first_step)
            return
        if self._is_evaluated(first_step):
            self._recorder.evaluate(state, first_step)
        state, step, is_stopped = self._steps(state, first_step)
        if is_stopped:
            if self._recorder.is_first:
                name = signal.Signals(self._stop.received).name
                log.warning("stopped by %s after step %d; continue with resume=%s", name, step, self._recorder.folder)
            raise SystemExit(STOPPED_EXIT_CODE)
        self._recorder.finish(state, step)

    def _steps(self, state: State, first_step: int) -> tuple[State, int, bool]:
        """Runs all steps, or those before simulated time is up, the budget is used up, or an agreed stop.

        Returns:
            The state, the number of completed steps, and whether a stop was agreed.
        """
        recorder = self._recorder
        checkpoint_every = self._simulation.settings["checkpoint"]["every"]
        meeting = _Meeting(self._simulation, self._stop, first_step)
        for step in range(first_step, self._num_steps):
            state, is_complete = self._step(state, step)
            if not is_complete:
                return state, step, False
            done = step + 1
            recorder.progress(done)
            is_last = self._is_over(done)
            saved = checkpoint_every > 0 and (done % checkpoint_every == 0 or is_last)
            if saved:
                recorder.save(state, done)
            if is_last:
                return state, done, False
            if done == meeting.next_step:
                recorder.require_finite(state, done)
                if meeting.agrees_to_stop(done):
                    if not saved:
                        recorder.save(state, done)
                    return state, done, True
            is_due = self._simulation.network.events is None and self._times.is_due
            if is_due:
                self._times.evaluated()
            if is_due or self._is_evaluated(done):
                recorder.evaluate(state, done)
        return state, self._num_steps, False

    def _step(self, state: State, step: int) -> tuple[State, bool]:
        """One step, with the evaluations at simulated times within it if it is asynchronous.

        Returns:
            The state, and whether the step is complete; it is not when simulated time is up within it.
        """
        network = self._simulation.network
        while True:
            state = self._simulation.step(state, step, self._times.next_s)
            events = network.events
            if events is None or int(events.num_steps.sum()) == (step + 1) * network.num_nodes:
                return state, True
            if self._times.is_up:
                return state, False
            self._times.evaluated()
            self._recorder.evaluate(state, step)

    def _is_over(self, step: int) -> bool:
        """Whether the run ends after ``step`` completed steps; every process must call it."""
        return step == self._num_steps or self._times.is_up or self._budget.is_used_up()

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
