"""What the fork server imports once for all workers.

The collector of garbage would look through each import again and again, and later copy the pages of
what a worker shares with the server. Python's manual advises this order of calls before forks.
"""

import gc
import importlib

gc.disable()
for name in ("hpcbench.cluster.worker", "hpcbench.measure.measure"):
    importlib.import_module(name)
gc.freeze()
gc.enable()
