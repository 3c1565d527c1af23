"""Settings of the whole suite."""

import jax

# eight devices on one host, so that everything which is split over devices is tested as such
jax.config.update("jax_num_cpu_devices", 8)
