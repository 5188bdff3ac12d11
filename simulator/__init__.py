"""A stand-in for OrderFlow that can be slow, wrong or down on demand.

From a shell: ``python -m simulator --help``. Inside a test, in a thread of its own::

    with Simulator.running(Options(channels=("web",))) as sim:
        post(sim.url + "/remoteorder/imports/importitems.xml", ...)
        sim.set_faults(["slow:0.5:delay=2"])
        assert sim.ledger.accepted

or in the running event loop, with ``async with Simulator(options) as sim:``.
The package stands alone: nothing but the standard library and aiohttp is needed.
"""

from simulator.embedded import Simulator
from simulator.faults import Fault, FaultPlan
from simulator.ledger import Accepted, Ledger, Request
from simulator.options import Options

__all__ = ["Accepted", "Fault", "FaultPlan", "Ledger", "Options", "Request", "Simulator"]
