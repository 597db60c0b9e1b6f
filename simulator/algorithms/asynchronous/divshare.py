"""DivShare: the model is cut into fragments, and each is sent to random neighbours of its own.

Update equations of event (i, k), for every coordinate c of fragment f, with learning rate a_k:
    when it begins:  S_i = the neighbours of which a fragment f has come since (i, k - 1) began
                     x_i[c] <- (x_i[c] + sum over j in S_i of the newest x_j[c] that has come) / (1 + |S_i|)
    when it ends:    x_i <- x_i - a_k grad f_i(x_i)
                     fragment f of x_i is sent to J random out-neighbours, drawn by (seed, i, k, f), for every f
The messages of an event leave in a random order. Those that have not begun to leave when the next event of their node
ends are dropped, because there is a newer model then.
Which coordinates form a fragment is drawn once; fragments differ in length by at most one coordinate.
What is evaluated is x_i at the beginning of the event in progress.
With one fragment that goes to all neighbours, equal clocks and links without delay this is D-SGD that averages
uniformly. Otherwise the mean over the nodes is not kept: how many fragments a node averages is random.
State: ``params`` [N, D], as the nodes sent them last, ``mail/params`` [S, L], ``mail/source`` [S] (i * F + f),
``mail/step`` [S], with L the length of the longest fragment.
Needs: a graph that says who may send to whom; its weights are not used. The paper's is graph=fully_connected. A timing.
Sends: J times D numbers for every local step, in F * J messages, less what is dropped.
Source: Biswas, Kermarrec, Marouani, Pires, Sharma and de Vos, Boosting asynchronous decentralized learning with model
fragmentation, WWW 2025 (arXiv 2410.12918). That a newer fragment replaces an older one of the same sender is from the
authors' program.
Departures: a local step is one gradient step, where the paper takes several. A message that has begun to leave is sent
to its end.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from simulator.algorithms.asynchronous.base import AsynchronousAlgorithm, add_scaled_gradients_, factors
from simulator.algorithms.base import State
from simulator.algorithms.weights import Weights
from simulator.checks import require_at_least, require_positive
from simulator.network.fragments import Fragments
from simulator.network.mail_rules import AveragedMail
from simulator.network.network import Network
from simulator.problems.base import Problem
from simulator.schedules import Schedule
from simulator.timing.fragments import Cut, FragmentRounds
from simulator.uploads import upload


@dataclass(frozen=True, kw_only=True)
class DivShare(AsynchronousAlgorithm):
    """Asynchronous gossip of fragments.

    Args:
        lr: learning rate; lr_schedule: its factor at each local step.
        num_fragments: F, at least 1; as many as there are parameters where these are fewer.
        out_degree: J, to how many nodes each fragment is sent, at least 1; to all neighbours where there are fewer.
        discard_unsent: whether messages that have not begun to leave are dropped when the node has a newer model.
        seed: keys fragments, targets and the order of messages.
    """

    weights: ClassVar[Weights] = Weights.ANY

    lr: float
    lr_schedule: Schedule
    num_fragments: int
    out_degree: int
    discard_unsent: bool
    seed: int

    def __post_init__(self) -> None:
        require_positive("algorithm.lr", self.lr)
        require_at_least("algorithm.num_fragments", self.num_fragments, 1)
        require_at_least("algorithm.out_degree", self.out_degree, 1)

    def init(self, problem: Problem, network: Network) -> State:
        params = problem.init_params()
        fragments, mail = self._mail(params, network)
        return {"params": params, **mail.first((fragments.cut(params),))}

    def step_until(self, state: State, step: int, problem: Problem, network: Network, until_s: float | None) -> State:
        params = state["params"]
        fragments, mail = self._mail(params, network)
        mail.follow(state, step)
        for events in mail.waves(step, until_s):
            x = fragments.join(events.mixed[0])
            rates = self.lr * factors(self.lr_schedule, events.steps)
            add_scaled_gradients_(x, x, problem, events.positions, events.steps, rates)
            params.index_copy_(0, upload(events.positions, params.device), x)
            mail.send((fragments.cut(x),))
        return {"params": params, **mail.entries()}

    def resume(self, state: State, step: int, problem: Problem, network: Network) -> None:
        _, mail = self._mail(state["params"], network)
        mail.follow(state, step)
        state |= mail.entries()

    def prepare_evaluation(self, state: State, problem: Problem, network: Network) -> State:
        fragments, mail = self._mail(state["params"], network)
        if not mail.owns(state):
            return state  # no event has ended yet
        return {**state, "params": fragments.join(mail.settled()[0])}

    def estimate(self, state: State) -> Tensor:
        return state["params"]

    def _mail(self, params: Tensor, network: Network) -> tuple[Fragments, AveragedMail]:
        dim = params.shape[1]
        fragments = network.kept(Fragments, lambda: Fragments(dim, min(self.num_fragments, dim), self.seed))

        def build() -> AveragedMail:
            assert network.timing is not None
            payloads = params.element_size() * fragments.lengths
            cut = Cut(payloads, self.out_degree, self.discard_unsent, self.seed)
            rounds = FragmentRounds(network.graph, network.timing.links, cut)
            return AveragedMail(network, ("params",), rounds, takes_in="start")

        return fragments, network.kept(AveragedMail, build)
