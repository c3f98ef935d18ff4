"""How torch's threads wait for each other: asleep. Imported before torch, which reads it once.

By default they spin, which is the fastest where every core is free, and the slowest by far where
one is not: beside a single busy neighbour on two cores a step took ten times as long. Both are in
docs/speed.md. Set OMP_WAIT_POLICY=active to have them spin.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
