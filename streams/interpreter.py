"""How a process that must answer within milliseconds sets up its Python interpreter."""

import gc
import sys

# How long a busy thread may keep the others waiting; the default of 5 ms is felt at the tail.
SWITCH_INTERVAL_S = 0.0005
# New containers until the garbage collector looks at the young ones. Events come by the thousand
# and leave without cycles; with the default of 700 it looks for none some twenty times a fetch.
YOUNG_OBJECTS = 20_000


def settle() -> None:
    """Call once everything is loaded, before the first event.

    What is there now, libraries and models, stays for good: the garbage collector need not look
    at it again, which with a machine-learning library takes it a tenth of a second each time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
    sys.setswitchinterval(SWITCH_INTERVAL_S)
