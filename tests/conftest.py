"""Settings of the whole suite."""

import jax
from hypothesis import settings

# eight devices on one host, so that everything which is split over devices is tested as such
jax.config.update("jax_num_cpu_devices", 8)

# for `--hypothesis-profile=large`; tests that state their own number keep it
settings.register_profile("large", max_examples=2_000)
