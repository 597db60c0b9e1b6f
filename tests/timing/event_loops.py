"""Discrete-event programs: one event after the other from a heap. They know of no recursion, window or wave.

Both take durations from a timing and its links and nothing else from the package.
"""

import heapq
from collections import defaultdict

import numpy as np


class Wires:
    """Uplinks and downlinks that serve one message at a time, by the model in simulator/timing/links.py."""

    def __init__(self, timing):
        self.links = timing.links
        self.uplink_free = [0.0] * timing.num_nodes
        self.downlink_free = [0.0] * timing.num_nodes

    def send(self, now, source, target, num_bytes):
        """When the message would be complete with the downlink to itself."""
        pair = (np.array([source]), np.array([target]))
        out = num_bytes / self.links.rate(*pair)[0]
        self.uplink_free[source] = max(now, self.uplink_free[source]) + out
        stretched = max(0.0, num_bytes / self.links.downlink[target] - out)
        return self.uplink_free[source] + self.links.latency_s(*pair)[0] + stretched

    def receive(self, complete, target, num_bytes):
        """When it arrives; to be called in the order in which messages would be complete."""
        occupied = num_bytes / self.links.downlink[target]
        self.downlink_free[target] = max(complete, self.downlink_free[target] + occupied)
        return self.downlink_free[target]


def synchronous(timing, rounds, rounds_per_step, num_bytes):
    """Local times and waiting times of all nodes after the rounds (lists of (source, target)), as arrays [M]."""
    num_nodes = timing.num_nodes
    wires = Wires(timing)
    out = [defaultdict(list) for _ in rounds]
    missing = [[0] * num_nodes for _ in rounds]  # messages of a round that have not arrived
    unqueued = [[0] * num_nodes for _ in rounds]  # and that have not had their turn at the downlink
    for r, pairs in enumerate(rounds):
        for source, target in sorted(pairs):
            out[r][source].append(target)
            missing[r][target] += 1
            unqueued[r][target] += 1
    heap = []
    held = defaultdict(list)  # messages of later rounds at a downlink
    serving, current, ready = [0] * num_nodes, [0] * num_nodes, [False] * num_nodes
    end, idle = np.zeros(num_nodes), np.zeros(num_nodes)

    def start(now, i):
        if current[i] == len(rounds):
            end[i] = now
            return
        ready[i] = False
        step, inner = divmod(current[i], rounds_per_step)
        duration = timing.compute_s([i], [step], [now])[0] if inner == 0 else 0.0
        heapq.heappush(heap, (now + duration, 0, i, "computed", None))

    def finish(now, i):
        if ready[i] is not False and missing[current[i]][i] == 0:
            idle[i] += now - ready[i]
            current[i] += 1
            start(now, i)

    def serve(i):
        while serving[i] < len(rounds):
            r = serving[i]
            while held[i, r]:
                complete, _ = heapq.heappop(held[i, r])
                unqueued[r][i] -= 1
                heapq.heappush(heap, (wires.receive(complete, i, num_bytes), 2, i, "arrived", r))
            if unqueued[r][i]:
                return
            serving[i] += 1

    for i in range(num_nodes):
        start(0.0, i)
    while heap:
        now, _, i, what, content = heapq.heappop(heap)
        if what == "computed":
            ready[i] = now
            for target in out[current[i]][i]:
                complete = wires.send(now, i, target, num_bytes)
                heapq.heappush(heap, (complete, 1, target, "complete", (current[i], i)))
            finish(now, i)
        elif what == "complete":
            r, source = content
            heapq.heappush(held[i, r], (now, source))
            serve(i)
        else:
            missing[content][i] -= 1
            if content == current[i]:
                finish(now, i)
    return end, idle


def asynchronous(timing, edges_of, num_bytes, num_events, takes_in):
    """The first events of nodes that never wait, in order: a list of (node, step, end, taken, age_steps).

    Args:
        edges_of: (source, target) pairs of a round.
        takes_in: "start" or "end".

    ``taken`` are the (source, step, sent, arrival) of what an event takes in, in the order of arrival.
    """
    num_nodes = timing.num_nodes
    wires = Wires(timing)
    # At one time: first events end, in the order of nodes; then messages are complete and arrive; then events begin.
    # What arrives when an event ends is too late for it in both rules.
    END, COMPLETE, ARRIVE, BEGIN = range(4)
    heap = [(0.0, BEGIN, i, ()) for i in range(num_nodes)]
    mailbox, snapshot = [[] for _ in range(num_nodes)], [[] for _ in range(num_nodes)]
    done, events, ends = [0] * num_nodes, [], [[] for _ in range(num_nodes)]
    while len(events) < num_events:
        now, what, i, content = heapq.heappop(heap)
        if what == BEGIN:
            if takes_in == "start":
                snapshot[i], mailbox[i] = mailbox[i], []
            heapq.heappush(heap, (now + timing.compute_s([i], [done[i]], [now])[0], END, i, ()))
        elif what == END:
            if takes_in == "end":
                snapshot[i], mailbox[i] = mailbox[i], []
            ages = [sum(sent < end < now for end in ends[j]) for j, _, sent, _ in snapshot[i]]
            events.append((i, done[i], now, list(snapshot[i]), ages))
            ends[i].append(now)
            for source, target in sorted(edges_of(done[i])):
                if source == i:
                    complete = wires.send(now, i, target, num_bytes)
                    heapq.heappush(heap, (complete, COMPLETE, target, (i, done[i], now)))
            done[i] += 1
            heapq.heappush(heap, (now, BEGIN, i, ()))
        elif what == COMPLETE:
            heapq.heappush(heap, (wires.receive(now, i, num_bytes), ARRIVE, i, content))
        else:
            mailbox[i].append((*content, now))
    return events


def fragments(timing, messages_of, bytes_of, num_events, *, discards):
    """The first events of nodes that send fragments, in order: a list of (node, step, end, taken, dropped).

    Args:
        messages_of: (fragment, target) pairs that event (node, step) sends, in the order in which they leave.
        bytes_of: length of a fragment.
        discards: whether messages that have not begun to leave are dropped when the node's next event ends.

    ``taken`` are the (source, step, fragment) of what has arrived when the event begins or before; ``dropped`` is how
    many messages of the node's event before are dropped when this one ends.
    """
    num_nodes, links = timing.num_nodes, timing.links
    # At one time: events end; uplinks take the next message; messages are complete and arrive; then events begin.
    END, FREE, COMPLETE, ARRIVE, BEGIN = range(5)
    heap = [(0.0, BEGIN, i, ()) for i in range(num_nodes)]
    queue, busy_until = [[] for _ in range(num_nodes)], [0.0] * num_nodes
    downlink_free = [0.0] * num_nodes
    mailbox, snapshot = [[] for _ in range(num_nodes)], [[] for _ in range(num_nodes)]
    done, events = [0] * num_nodes, []
    while len(events) < num_events:
        now, what, i, content = heapq.heappop(heap)
        if what == BEGIN:
            snapshot[i], mailbox[i] = mailbox[i], []
            heapq.heappush(heap, (now + timing.compute_s([i], [done[i]], [now])[0], END, i, ()))
        elif what == END:
            dropped = len(queue[i]) if discards else 0
            events.append((i, done[i], now, snapshot[i], dropped))
            kept = [] if discards else queue[i]
            queue[i] = kept + [(i, done[i], f, target) for f, target in messages_of(i, done[i])]
            heapq.heappush(heap, (max(now, busy_until[i]), FREE, i, ()))
            done[i] += 1
            heapq.heappush(heap, (now, BEGIN, i, ()))
        elif what == FREE:
            if queue[i] and now >= busy_until[i]:
                source, step, f, target = queue[i].pop(0)
                pair = (np.array([source]), np.array([target]))
                out = bytes_of(f) / links.rate(*pair)[0]
                stretched = max(0.0, bytes_of(f) / links.downlink[target] - out)
                complete = now + out + links.latency_s(*pair)[0] + stretched
                busy_until[i] = now + out
                heapq.heappush(heap, (complete, COMPLETE, target, (source, step, f)))
                heapq.heappush(heap, (busy_until[i], FREE, i, ()))
        elif what == COMPLETE:
            occupied = bytes_of(content[2]) / links.downlink[i]
            downlink_free[i] = max(now, downlink_free[i] + occupied)
            heapq.heappush(heap, (downlink_free[i], ARRIVE, i, content))
        else:
            mailbox[i].append(content)
    return events


def meetings(timing, partner_of, exchange_s, num_events):
    """The first meetings of pairs, in order: a list of (node, step, end, partner, age_steps)."""
    heap, touched = [], [0] * timing.num_nodes

    def begin(now, i, step):
        partner = partner_of(i, step)
        end = now + (timing.compute_s([i], [step], [now])[0] + exchange_s(i, partner))
        heapq.heappush(heap, (end, i, step, partner))

    for i in range(timing.num_nodes):
        begin(0.0, i, 0)
    events = []
    while len(events) < num_events:
        now, i, step, partner = heapq.heappop(heap)
        events.append((i, step, now, partner, touched[i]))
        touched[partner] += 1
        touched[i] = 0
        begin(now, i, step + 1)
    return events
