"""Where synthcl meets Ray: joining a cluster, what it has, its workers, and runs that survive the loss of nodes.

No room below this one imports Ray; the search and comparisons on a cluster do, above it.
"""

import os

# Read by Ray when it is imported: our own log replaces the default loggers, only rungs carry a score, nothing is
# continued from Tune's snapshots, and an interrupt must leave a stage unfinished where Tune would return as if it
# were done.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "3600")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
